//! Figures for Prometheus: what they are called, and how they are asked for.
//!
//! ```
//! use reflector_metrics::page::Page;
//!
//! let mut page = Page::default();
//! let labels = |worker: u64| vec![("worker", worker.to_string())];
//! page.counter("replied_datagrams", "Replies that the kernel took")
//!     .extend([(labels(0), 3), (labels(1), 5)]);
//! let text = page.text("reflector");
//! assert!(text.contains("reflector_replied_datagrams_total{worker=\"1\"} 5\n"));
//! assert!(text.ends_with("# EOF\n"));
//! ```

#![forbid(unsafe_code)]

pub mod buckets;
pub mod http;
pub mod native;
pub mod page;
pub mod protobuf;
