//! A desk against a model of a server: one that answers late, drops, and purges.

mod examples;
mod model;
mod properties;
