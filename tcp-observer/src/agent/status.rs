//! What the agent says of itself: which programs run where, and what they cost.

use std::sync::{Arc, Mutex, PoisonError};

use crate::{
    kernel::load::{self, Programs},
    output::{
        http::Health,
        metrics::{AgentStatus, Attachment, ProgramUsage, SocketCheck},
    },
};

/// Shared between the run loop, which changes it, and the web server, which shows it.
pub struct Status {
    programs: Arc<Mutex<Programs>>,
    attachments: Mutex<Vec<Attachment>>,
    socket_check: Mutex<Option<SocketCheck>>,
}

impl Status {
    pub fn new(programs: Arc<Mutex<Programs>>) -> Self {
        Self { programs, attachments: Mutex::default(), socket_check: Mutex::default() }
    }

    pub fn set_attachments(&self, attachments: Vec<Attachment>) {
        *self.attachments.lock().unwrap_or_else(PoisonError::into_inner) = attachments;
    }

    pub fn set_socket_check(&self, check: Option<SocketCheck>) {
        *self.socket_check.lock().unwrap_or_else(PoisonError::into_inner) = check;
    }

    pub fn health(&self) -> Health {
        if self.attachments.lock().unwrap_or_else(PoisonError::into_inner).is_empty() {
            Health::Failing("no interface is observed: all that were have gone".into())
        } else {
            Health::Ok
        }
    }
}

impl AgentStatus for Status {
    fn programs(&self) -> Vec<ProgramUsage> {
        if !load::measures_programs() {
            return Vec::new();
        }
        let infos = self.programs.lock().unwrap_or_else(PoisonError::into_inner).infos();
        let usage = |(name, info): (String, aya::programs::ProgramInfo)| ProgramUsage {
            name,
            run_seconds: info.run_time().as_secs_f64(),
            runs: info.run_count(),
        };
        infos.into_iter().map(usage).collect()
    }

    fn attachments(&self) -> Vec<Attachment> {
        self.attachments.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn socket_check(&self) -> Option<SocketCheck> {
        self.socket_check.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
