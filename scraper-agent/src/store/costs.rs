//! Money spent on paid models, by calendar month (UTC).
//!
//! A request is paid for before it is sent, at the most it can cost; afterwards the real sum takes its place. So
//! requests under way together cannot pass the budget, and one that a crash cut off stays counted.

use chrono::{DateTime, Utc};
use rusqlite::{Connection, params};

use crate::error::AgentError;
use crate::store::Store;

/// Money set aside for one request.
#[derive(Debug, PartialEq, Eq)]
#[must_use = "unsettled, the full estimate stays counted"]
pub struct Reservation(i64);

/// There is not enough left.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct BudgetExceeded {
    /// Spent and set aside this month.
    pub spent_usd: f64,
    /// What the request could have cost.
    pub asked_usd: f64,
}

impl Store {
    /// Sets `usd` aside, or says that the month's budget does not hold it.
    pub async fn reserve_cost(
        &self,
        model: &str,
        usd: f64,
        budget_usd: f64,
        now: DateTime<Utc>,
    ) -> Result<Result<Reservation, BudgetExceeded>, AgentError> {
        let (month, model) = (month(now), model.to_owned());
        let reserve = move |connection: &mut Connection| {
            let transaction = connection.transaction()?;
            let spent_usd = spent(&transaction, &month)?;
            if spent_usd + usd > budget_usd {
                return Ok(Err(BudgetExceeded { spent_usd, asked_usd: usd }));
            }
            let sql = "INSERT INTO costs (month, at, model, usd, settled) VALUES (?1, ?2, ?3, ?4, 0)";
            transaction.execute(sql, params![month, now.timestamp(), model, usd])?;
            let id = transaction.last_insert_rowid();
            transaction.commit()?;
            Ok(Ok(Reservation(id)))
        };
        self.thread.call(reserve).await
    }

    /// Puts the real sum in the place of what was set aside.
    pub async fn settle_cost(&self, reservation: Reservation, usd: f64) -> Result<(), AgentError> {
        let settle = move |connection: &mut Connection| {
            let sql = "UPDATE costs SET usd = ?2, settled = 1 WHERE id = ?1";
            connection.execute(sql, params![reservation.0, usd])?;
            Ok(())
        };
        self.thread.call(settle).await
    }

    /// Spent and set aside in the month of `now`.
    pub async fn month_cost_usd(&self, now: DateTime<Utc>) -> Result<f64, AgentError> {
        self.thread.call(move |connection| spent(connection, &month(now))).await
    }
}

fn month(now: DateTime<Utc>) -> String {
    now.format("%Y-%m").to_string()
}

fn spent(connection: &Connection, month: &str) -> Result<f64, AgentError> {
    let sql = "SELECT coalesce(sum(usd), 0.0) FROM costs WHERE month = ?1";
    Ok(connection.query_row(sql, [month], |row| row.get(0))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_budget_holds_over_requests_under_way_and_ends_with_the_month() {
        let store = Store::in_memory().await.unwrap();
        let november = DateTime::parse_from_rfc3339("2026-11-30T23:59:00Z").unwrap().to_utc();
        let december = DateTime::parse_from_rfc3339("2026-12-01T00:01:00Z").unwrap().to_utc();
        let first = store.reserve_cost("m", 0.6, 1.0, november).await.unwrap().unwrap();
        let refused = store.reserve_cost("m", 0.6, 1.0, november).await.unwrap().unwrap_err();
        assert_eq!(refused, BudgetExceeded { spent_usd: 0.6, asked_usd: 0.6 });
        store.settle_cost(first, 0.1).await.unwrap();
        let second = store.reserve_cost("m", 0.6, 1.0, november).await.unwrap().unwrap();
        assert!(
            (store.month_cost_usd(november).await.unwrap() - 0.7).abs() < 1e-9,
            "unsettled stays counted: {second:?}"
        );
        assert!(store.reserve_cost("m", 0.9, 1.0, december).await.unwrap().is_ok());
    }
}
