//! A device as people write it.

use std::borrow::Cow;

use quarry_runtime::devices::DeviceChoice;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// `auto`, `cuda`, `cuda:1`, `cuda:GPU-UUID` or `cpu`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Device(pub DeviceChoice);

impl Serialize for Device {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Device {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map(Self).map_err(serde::de::Error::custom)
    }
}

impl JsonSchema for Device {
    fn schema_name() -> Cow<'static, str> {
        "Device".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let pattern = "^(auto|cpu|cuda(:([0-9]+|(GPU|MIG)-[0-9a-fA-F-]+))?)$";
        json_schema!({"type": "string", "pattern": pattern})
    }
}
