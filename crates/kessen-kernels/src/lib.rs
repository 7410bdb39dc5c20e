//! The kernels stage of Kessen.
