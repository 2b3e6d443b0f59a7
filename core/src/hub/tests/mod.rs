//! The hub's rules, one test each, grouped by theme. A test speaks the small language of [`world`].

mod abuse;
mod admin;
mod audit;
mod channels;
mod comings;
mod durability;
mod end;
mod fair;
mod hidden;
mod identity;
mod invites;
mod mail;
mod mail_model;
mod messages;
mod names;
mod presence;
mod quota;
mod races;
mod receipts;
mod sealed;
mod sealed_model;
mod streams;
mod user_invites;
mod world;
