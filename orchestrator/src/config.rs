//! What the orchestrator is given to work with.

use std::collections::BTreeMap;
use std::net::IpAddr;

use thiserror::Error;

/// Functions, services and nodes that fit together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    functions: BTreeMap<String, FunctionConfig>,
    services: BTreeMap<String, ServiceConfig>,
    nodes: BTreeMap<String, NodeConfig>,
}

/// A function's size and bounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FunctionConfig {
    /// Its name, the same on every node.
    pub name: String,
    /// Memory that one instance may reach, bytes.
    pub memory_bytes: u64,
    /// Longest time for one request, milliseconds.
    pub deadline_ms: u64,
    /// Instances that each of its services has at all times.
    pub instances_min: u32,
    /// Instances that each of its services may have.
    pub instances_max: u32,
    /// Which node gets the next instance.
    pub pattern: Pattern,
}

/// A service: what appliances ask for by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServiceConfig {
    /// Its name.
    pub name: String,
    /// The function that answers for it.
    pub function: String,
    /// The TCP port its instances listen on; zero lets each node choose.
    pub port: u16,
}

/// A serving node that may register.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// The name it registers by.
    pub name: String,
    /// An address that it must bring, if one is required.
    pub address: Option<IpAddr>,
}

/// Which of the nodes with room gets the next instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Pattern {
    /// The one with the least room left: others stay free.
    Pack,
    /// The one with the most room left.
    Spread,
}

impl Config {
    /// Checks that the parts fit together.
    ///
    /// # Errors
    /// The first thing that doesn't.
    pub fn new(
        functions: Vec<FunctionConfig>,
        services: Vec<ServiceConfig>,
        nodes: Vec<NodeConfig>,
    ) -> Result<Self, ConfigError> {
        let mut config =
            Config { functions: BTreeMap::new(), services: BTreeMap::new(), nodes: BTreeMap::new() };
        for function in functions {
            if function.instances_max == 0 || function.instances_min > function.instances_max {
                return Err(ConfigError::Bounds(function.name));
            }
            if function.memory_bytes == 0 {
                return Err(ConfigError::NoMemory(function.name));
            }
            if let Some(twice) = config.functions.insert(function.name.clone(), function) {
                return Err(ConfigError::Twice("function", twice.name));
            }
        }
        for service in services {
            if !config.functions.contains_key(&service.function) {
                return Err(ConfigError::NoFunction { service: service.name, function: service.function });
            }
            if let Some(twice) = config.services.insert(service.name.clone(), service) {
                return Err(ConfigError::Twice("service", twice.name));
            }
        }
        for node in nodes {
            if let Some(twice) = config.nodes.insert(node.name.clone(), node) {
                return Err(ConfigError::Twice("node", twice.name));
            }
        }
        Ok(config)
    }

    /// The same, with the nodes of `other` that it lacks.
    #[must_use]
    pub(crate) fn with_nodes_of(mut self, other: &Config) -> Self {
        for node in other.nodes.values() {
            self.nodes.entry(node.name.clone()).or_insert_with(|| node.clone());
        }
        self
    }

    /// The services, by name.
    pub fn services(&self) -> impl Iterator<Item = &ServiceConfig> {
        self.services.values()
    }

    /// The nodes, by name.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeConfig> {
        self.nodes.values()
    }

    /// The node of that name.
    #[must_use]
    pub fn node(&self, name: &str) -> Option<&NodeConfig> {
        self.nodes.get(name)
    }

    /// The service of that name with its function.
    #[must_use]
    pub fn service(&self, name: &str) -> Option<(&ServiceConfig, &FunctionConfig)> {
        let service = self.services.get(name)?;
        Some((service, self.functions.get(&service.function)?))
    }
}

/// Parts that don't fit together.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ConfigError {
    /// One name, two meanings.
    #[error("the {0} {1:?} is given twice")]
    Twice(&'static str, String),
    /// A service leads nowhere.
    #[error("service {service:?} leads to function {function:?}, which there is none of")]
    NoFunction {
        /// The service.
        service: String,
        /// The function's name.
        function: String,
    },
    /// Bounds that no number satisfies.
    #[error(
        "function {0:?} has no number of instances between its minimum and maximum, or a maximum of zero"
    )]
    Bounds(String),
    /// An instance without memory.
    #[error("function {0:?} has no memory")]
    NoMemory(String),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn function(name: &str, min: u32, max: u32) -> FunctionConfig {
        FunctionConfig {
            name: name.to_owned(),
            memory_bytes: 1,
            deadline_ms: 1,
            instances_min: min,
            instances_max: max,
            pattern: Pattern::Pack,
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        let service = |name: &str, function: &str| ServiceConfig {
            name: name.to_owned(),
            function: function.to_owned(),
            port: 0,
        };
        let node = || NodeConfig { name: "n".to_owned(), address: None };
        let refusal = |functions, services, nodes| Config::new(functions, services, nodes).unwrap_err();
        assert_eq!(refusal(vec![function("f", 2, 1)], vec![], vec![]), ConfigError::Bounds("f".to_owned()));
        assert_eq!(refusal(vec![function("f", 0, 0)], vec![], vec![]), ConfigError::Bounds("f".to_owned()));
        assert_eq!(
            refusal(vec![function("f", 0, 1)], vec![service("s", "g")], vec![]),
            ConfigError::NoFunction { service: "s".to_owned(), function: "g".to_owned() }
        );
        assert_eq!(refusal(vec![], vec![], vec![node(), node()]), ConfigError::Twice("node", "n".to_owned()));
    }
}
