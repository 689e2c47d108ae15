//! The kinds of connections, by how they are opened, used and closed: each is a script over real sockets.

mod aborting;
mod again;
mod closing;
mod failing;
mod living;
mod opening;
mod whim;

use std::io;

use crate::visit::Visit;

/// What a script wants of the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wants {
    Anything,
    /// Segments that are under way for a while, so that others can cross them.
    Delay,
}

pub struct Kind {
    pub name: &'static str,
    pub wants: Wants,
    /// How often it comes, among a thousand or so.
    pub weight: usize,
    pub script: fn(&mut Visit<'_>) -> io::Result<()>,
}

const fn kind(name: &'static str, weight: usize, script: fn(&mut Visit<'_>) -> io::Result<()>) -> Kind {
    Kind { name, wants: Wants::Anything, weight, script }
}

const fn crossing(name: &'static str, weight: usize, script: fn(&mut Visit<'_>) -> io::Result<()>) -> Kind {
    Kind { name, wants: Wants::Delay, weight, script }
}

/// Those that take long come first, so that nothing is waited for at the end.
pub const KINDS: &[Kind] = &[
    kind("to nobody", 4, failing::to_nobody),
    kind("FIN_WAIT2 left alone", 6, closing::fin_wait_2_left_alone),
    kind("keepalive", 10, living::keepalive),
    kind("accept queue overflow", 5, opening::accept_queue_overflow),
    kind("deferred accept", 8, opening::deferred_accept),
    kind("TIME_WAIT reused, client closed first", 8, again::after_own_time_wait),
    kind("TIME_WAIT reused, server closed first", 12, again::after_the_servers_time_wait),
    kind("ports again after a reset", 8, again::after_a_reset),
    kind("idle", 10, living::idle),
    kind("closed window", 8, living::closed_window),
    kind("large transfer", 16, living::large_transfer),
    kind("unsent data at close", 14, closing::with_unsent_data),
    kind("unsent data when both close", 8, closing::with_unsent_data_at_both_ends_close),
    kind("whim", 140, whim::whim),
    kind("refused", 60, failing::refused),
    kind("unreachable", 30, failing::unreachable),
    crossing("given up while connecting", 40, failing::given_up_while_connecting),
    kind("listener closed", 20, failing::listener_closed),
    crossing("listener closed in the handshake", 16, failing::listener_closed_in_the_handshake),
    kind("client closes first", 60, closing::client_first),
    kind("server closes first", 60, closing::server_first),
    kind("nothing said", 40, closing::nothing_said),
    kind("closed at once", 40, closing::at_once),
    kind("three segments", 40, closing::in_three_segments),
    kind("FIN with data", 40, closing::fin_with_data),
    kind("shut down both ways", 30, closing::shut_down_both_ways),
    kind("half-close of the client's", 40, closing::half_close_of_the_clients),
    kind("half-close of the server's", 40, closing::half_close_of_the_servers),
    crossing("both close at once", 60, closing::both_at_once),
    crossing("both close with data under way", 40, closing::both_at_once_with_data),
    crossing("simultaneous open", 40, opening::simultaneous),
    kind("Fast Open", 40, opening::fast),
    crossing("Fast Open closed early", 30, opening::fast_and_closed_early),
    kind("client aborts unused", 25, aborting::client_unused),
    kind("server aborts unused", 25, aborting::server_unused),
    kind("client aborts", 25, aborting::client_after_data),
    kind("server aborts", 25, aborting::server_after_data),
    kind("client closes with unread data", 25, aborting::client_with_unread_data),
    kind("server closes with unread data", 25, aborting::server_with_unread_data),
    kind("client aborts its half-close", 25, aborting::client_in_its_half_close),
    kind("server aborts the client's half-close", 25, aborting::server_in_the_clients_half_close),
    kind("client disconnects", 20, aborting::client_disconnects),
    kind("data after a close", 30, aborting::data_after_a_close),
    crossing("both abort", 30, aborting::both),
    crossing("abort crosses a close", 30, aborting::across_a_close),
];
