//! Containers, networks, settings and images on the real engine.

mod container;
mod container_faults;
mod engine_faults;
mod images;
mod network;
#[path = "../support/private_engine.rs"]
mod private_engine;
mod raw_config;
mod servers;
#[path = "../support/mod.rs"]
mod support;
mod surface;
mod surroundings;
