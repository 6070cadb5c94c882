//! `reflector lab`.

pub mod show;
