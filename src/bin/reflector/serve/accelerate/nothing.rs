//! A program that was built without it.

use std::net::SocketAddr;

use reflector::Rules;
use reflector_measure::error::Error;

use super::counted::Accelerated;

/// There is none.
pub enum InKernel {}

impl InKernel {
    /// Is never called: there is no option for it.
    ///
    /// # Errors
    /// Always.
    pub fn open(
        _devices: &[String],
        _listeners: Vec<SocketAddr>,
        _is_dual_stack: bool,
        _rules: &Rules,
    ) -> Result<Self, Error> {
        let said = "this program was built without the feature 'accelerate'";
        Err(Error::new("cannot answer in the kernel", said))
    }

    /// Follows devices.
    ///
    /// # Errors
    /// None.
    pub fn follow(&self) -> Result<(), Error> {
        match *self {}
    }

    /// Goes by `rules`.
    pub fn set_rules(&self, _rules: &Rules) {
        match *self {}
    }

    /// Lets go.
    pub fn end(&self) {
        match *self {}
    }

    /// Since the start.
    pub fn total(&self) -> Accelerated {
        match *self {}
    }

    /// Since the last interval.
    pub fn interval(&self) -> Accelerated {
        match *self {}
    }
}
