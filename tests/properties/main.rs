//! What holds for every input, tried with many.

mod lists;
mod replies;
