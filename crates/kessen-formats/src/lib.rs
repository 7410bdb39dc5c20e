//! Files in and out: safetensors, npy, and the model file.
//!
//! Every reader checks what it reads before it takes memory for it, and says what was found and expected. Every
//! writer is atomic.

mod atomic;
mod error;
mod model;
pub mod npy;
mod params;
mod safetensors;

pub use atomic::write_atomic;
pub use error::{Error, ParamReport, Result};
pub use model::Model;
pub use params::match_params;
pub use safetensors::SafeTensors;
