use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Something that went wrong, for a person: what happened, what it means, what to do next.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Stable code, for example `T1001`. Scripts test this, never the texts.
    #[schema(example = "T1001")]
    pub code: String,
    /// What happened.
    pub message: String,
    /// What it means.
    pub meaning: String,
    /// What to do next.
    pub action: String,
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl std::error::Error for Problem {}

/// The body of every answer of the API that is not a success.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    pub error: Problem,
}
