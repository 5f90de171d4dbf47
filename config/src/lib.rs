//! Configuration of Millrace: TOML to checked types, and the core-pair plan
