//! A summary of sums and counts by route, which the metrics library can write but not keep.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};

use prometheus::core::{Collector, Desc};
use prometheus::proto::{LabelPair, Metric, MetricFamily, MetricType, Summary};

const LABEL: &str = "handler";

#[derive(Clone, Copy, Debug, Default)]
struct Total {
    count: u64,
    bytes: u64,
}

/// Bytes of bodies, by route: as many entries as there are routes.
#[derive(Clone)]
pub(super) struct Sizes {
    desc: Desc,
    totals: Arc<Mutex<BTreeMap<String, Total>>>,
}

impl Sizes {
    pub fn new(name: &str, help: &str) -> Result<Self, prometheus::Error> {
        let desc = Desc::new(name.to_owned(), help.to_owned(), vec![LABEL.to_owned()], HashMap::new())?;
        Ok(Self { desc, totals: Arc::default() })
    }

    /// One body more.
    pub fn add(&self, handler: &str, bytes: u64) {
        let mut totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let total = totals.entry(handler.to_owned()).or_default();
        total.count += 1;
        total.bytes += bytes;
    }
}

impl Collector for Sizes {
    fn desc(&self) -> Vec<&Desc> {
        vec![&self.desc]
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let totals = self.totals.lock().unwrap_or_else(PoisonError::into_inner);
        let metrics = totals.iter().map(|(handler, total)| {
            let mut label = LabelPair::default();
            label.set_name(LABEL.to_owned());
            label.set_value(handler.clone());
            let mut summary = Summary::default();
            summary.set_sample_count(total.count);
            summary.set_sample_sum(total.bytes as f64);
            let mut metric = Metric::from_label(vec![label]);
            metric.set_summary(summary);
            metric
        });
        let mut family = MetricFamily::default();
        family.set_name(self.desc.fq_name.clone());
        family.set_help(self.desc.help.clone());
        family.set_field_type(MetricType::SUMMARY);
        family.set_metric(metrics.collect::<Vec<_>>());
        vec![family]
    }
}
