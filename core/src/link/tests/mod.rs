mod gaps;
mod model;
mod robustness;
mod rules;
