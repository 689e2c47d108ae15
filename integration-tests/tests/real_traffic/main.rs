//! Real connections over a wire between two namespaces, seen from either end, through every kind of ingress program,
//! for both families. What the observer says is compared with the kernel's own word.

mod attempts;
mod closing;
mod counting;
mod ends;
mod opened_oddly;
mod opening;
mod talking;
mod unreachable;
