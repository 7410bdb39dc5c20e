//! The recipes in the binary: one file each under `recipes/`, and one line in [`SHIPPED`].

use crate::failure::unknown;

/// A recipe in the binary.
#[derive(Debug, Clone, Copy)]
pub struct Shipped {
    /// The name on the command line.
    pub name: &'static str,
    /// The TOML text.
    pub text: &'static str,
}

macro_rules! shipped {
    ($($name:literal),*) => {
        /// Every shipped recipe.
        pub const SHIPPED: &[Shipped] =
            &[$(Shipped { name: $name, text: include_str!(concat!("../../recipes/", $name, ".toml")) }),*];
    };
}
shipped!("digits", "mnist", "iris", "wine", "regression", "sine", "abs", "step", "square", "chirp");

impl Shipped {
    /// The line that says what it is.
    pub fn about(&self) -> String {
        let table = self.text.parse::<toml::Table>().unwrap_or_default();
        table.get("about").and_then(toml::Value::as_str).unwrap_or_default().to_owned()
    }
}

/// The shipped recipe `name`.
///
/// # Errors
/// A usage error with the nearest name.
pub fn find(name: &str) -> anyhow::Result<&'static Shipped> {
    SHIPPED.iter().find(|s| s.name == name).ok_or_else(|| {
        let known: Vec<&str> = SHIPPED.iter().map(|s| s.name).collect();
        unknown(
            "recipe",
            name,
            &known,
            "`kessen recipes` lists them; a recipe of your own is a path that ends in .toml",
        )
    })
}
