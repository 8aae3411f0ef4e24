//! The one thread that talks to SQLite.
//!
//! Commands are closures over the connection, in a bounded line; each answers its caller through a channel of its own.
//! So no async thread ever waits for the disk, and two commands never meet in one transaction. A caller that goes away
//! undoes nothing: what was handed over is done.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{PoisonError, RwLock};

use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot, watch};

use crate::error::AgentError;

type Command = Box<dyn FnOnce(&mut Connection) + Send>;

/// Commands waiting at most; whoever has one more waits for room.
const COMMANDS_MAX: usize = 64;

/// The thread's end of the line.
pub(super) struct StoreThread {
    /// `None` once it is closing.
    commands: RwLock<Option<mpsc::Sender<Command>>>,
    /// Its sender lives as long as the thread.
    alive: watch::Receiver<()>,
}

impl StoreThread {
    /// Starts it; `open` runs there.
    pub async fn start(
        open: impl FnOnce() -> Result<Connection, AgentError> + Send + 'static,
    ) -> Result<Self, AgentError> {
        let (commands, line) = mpsc::channel(COMMANDS_MAX);
        let (opened, is_open) = oneshot::channel();
        let (living, alive) = watch::channel(());
        let work = move || {
            let _living = living;
            match open() {
                Ok(connection) => {
                    if opened.send(Ok(())).is_ok() {
                        serve(connection, line);
                    }
                }
                Err(error) => drop(opened.send(Err(error))),
            }
        };
        std::thread::Builder::new()
            .name("store".to_owned())
            .spawn(work)
            .map_err(|error| AgentError::Worker(format!("no thread for the database: {error}")))?;
        is_open.await.map_err(|_| AgentError::Worker("opening the database panicked".to_owned()))??;
        Ok(Self { commands: RwLock::new(Some(commands)), alive })
    }

    /// Runs a command there, after those that were handed over before.
    ///
    /// # Errors
    /// The command's own; [`AgentError::Worker`] where it panicked, which undid it; [`AgentError::StoreClosed`].
    pub async fn call<T, F>(&self, command: F) -> Result<T, AgentError>
    where
        T: Send + 'static,
        F: FnOnce(&mut Connection) -> Result<T, AgentError> + Send + 'static,
    {
        let commands = self.commands.read().unwrap_or_else(PoisonError::into_inner).clone();
        let commands = commands.ok_or(AgentError::StoreClosed)?;
        let (reply, answer) = oneshot::channel();
        let command = move |connection: &mut Connection| {
            // Unwinding drops the command's transaction, which rolls it back; the connection stays sound.
            let result = catch_unwind(AssertUnwindSafe(|| command(connection))).unwrap_or_else(|_| {
                Err(AgentError::Worker("a command of the database panicked and was undone".to_owned()))
            });
            // Whoever asked may have gone.
            drop(reply.send(result));
        };
        commands.send(Box::new(command)).await.map_err(|_| AgentError::StoreClosed)?;
        answer.await.map_err(|_| AgentError::StoreClosed)?
    }

    /// Takes no more commands, and waits until those that were handed over are done and the file is closed.
    pub async fn close(&self) {
        drop(self.commands.write().unwrap_or_else(PoisonError::into_inner).take());
        let mut alive = self.alive.clone();
        // Nothing is ever sent: this ends when the thread does.
        while alive.changed().await.is_ok() {}
    }
}

fn serve(mut connection: Connection, mut line: mpsc::Receiver<Command>) {
    while let Some(command) = line.blocking_recv() {
        command(&mut connection);
    }
    if let Err((_, error)) = connection.close() {
        tracing::warn!(%error, "the database was not closed properly");
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    async fn numbers(file: &std::path::Path) -> StoreThread {
        let file = file.to_owned();
        let open = move || {
            let connection = Connection::open(file)?;
            connection.execute_batch("CREATE TABLE IF NOT EXISTS numbers (number INTEGER)")?;
            Ok(connection)
        };
        StoreThread::start(open).await.unwrap()
    }

    fn insert(connection: &mut Connection, number: i64) -> Result<(), AgentError> {
        connection.execute("INSERT INTO numbers VALUES (?1)", [number])?;
        Ok(())
    }

    async fn sum(thread: &StoreThread) -> i64 {
        let sql = "SELECT coalesce(sum(number), 0) FROM numbers";
        thread.call(|connection| Ok(connection.query_row(sql, [], |row| row.get(0))?)).await.unwrap()
    }

    #[tokio::test]
    async fn a_panic_undoes_its_command_and_the_thread_goes_on() {
        let folder = tempfile::tempdir().unwrap();
        let thread = numbers(&folder.path().join("a.sqlite")).await;
        let failed: Result<(), AgentError> = thread
            .call(|connection| {
                let transaction = connection.transaction()?;
                transaction.execute("INSERT INTO numbers VALUES (7)", [])?;
                panic!("in the middle of a transaction");
            })
            .await;
        assert!(matches!(failed, Err(AgentError::Worker(_))), "{failed:?}");
        thread.call(|connection| insert(connection, 1)).await.unwrap();
        assert_eq!(sum(&thread).await, 1);
    }

    #[tokio::test]
    async fn closing_finishes_what_was_handed_over_even_if_nobody_waits_for_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("a.sqlite");
        let thread = Arc::new(numbers(&file).await);
        let (go, gate) = std::sync::mpsc::channel::<()>();
        let (holding, is_held) = oneshot::channel();
        let held = Arc::clone(&thread);
        let first = tokio::spawn(async move {
            held.call(move |_| {
                holding.send(()).unwrap();
                gate.recv().unwrap();
                Ok(())
            })
            .await
        });
        is_held.await.unwrap();
        for number in 1..=50 {
            let call = thread.call(move |connection| insert(connection, number));
            // Polled once: handed over, then given up.
            let none = tokio::time::timeout(std::time::Duration::ZERO, call).await;
            assert!(none.is_err(), "the first command holds the thread");
        }
        go.send(()).unwrap();
        thread.close().await;
        first.await.unwrap().unwrap();
        assert!(matches!(thread.call(|_| Ok(())).await, Err(AgentError::StoreClosed)));
        assert_eq!(sum(&numbers(&file).await).await, (1..=50).sum::<i64>());
    }

    #[tokio::test]
    async fn what_cannot_be_opened_says_so() {
        let error = StoreThread::start(|| Ok(Connection::open("/nowhere/a.sqlite")?)).await.err().unwrap();
        assert!(matches!(error, AgentError::Store(_)), "{error}");
    }
}
