//! The disk refuses: errors, no space, damage.

use super::*;
