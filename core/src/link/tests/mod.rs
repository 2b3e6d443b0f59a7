mod channels;
mod gaps;
mod model;
mod robustness;
mod rules;
mod scripted;
