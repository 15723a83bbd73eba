//! Trainers that are started before there is a job for them: to load libtorch takes longer than to prepare most jobs.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::sys::signal::Signal;
use tempfile::TempDir;
use uuid::Uuid;

use super::Worker;
use super::child::{Place, Trainer};
use super::machine;
use crate::private;

/// A trainer that waits in a folder of its own, on one of the GPUs if there are some. It has read nothing yet, so it is as
/// trustworthy as its program.
struct Spare {
    // Before the folder: dropped, it is killed.
    trainer: Trainer,
    folder: TempDir,
    gpu: Option<String>,
}

/// The trainers that wait: one for each GPU, or one.
#[derive(Default)]
pub(super) struct Spares(Mutex<Vec<Spare>>);

impl Spares {
    /// No code that holds the lock can panic, so its contents are whole in any case.
    fn alive(&self) -> MutexGuard<'_, Vec<Spare>> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.retain(|spare| spare.trainer.is_alive());
        waiting
    }

    fn take(&self, gpu: Option<&str>) -> Option<Spare> {
        let mut waiting = self.alive();
        let place = waiting.iter().position(|spare| spare.gpu.as_deref() == gpu)?;
        Some(waiting.swap_remove(place))
    }

    /// Ends those that wait.
    pub(super) async fn end(&self) {
        let waiting = std::mem::take(&mut *self.alive());
        for Spare { trainer, folder: _folder, .. } in waiting {
            trainer.group().signal(Signal::SIGKILL);
            trainer.end().await;
        }
    }
}

impl Worker {
    fn place<'a>(&'a self, folder: &'a Path, gpu: Option<&'a str>) -> Place<'a> {
        let (config, premises) = (&self.app.config, &*self.premises);
        Place { config, premises, threads: self.threads, folder, gpu, sharing: self.sharing }
    }

    /// A trainer at work on what lies in `folder`.
    ///
    /// # Errors
    /// None can be started, or the folder cannot be handed over.
    pub(super) fn trainer(&self, folder: &Path, gpu: Option<&str>) -> io::Result<Trainer> {
        let Some(mut spare) = self.spares.take(gpu) else { return Trainer::start(&self.place(folder, gpu)) };
        spare.trainer.begin(folder)?;
        // It is not there any more.
        let _ = spare.folder.keep();
        Ok(spare.trainer)
    }

    /// Has trainers wait on the GPUs of so many slots.
    pub(super) fn keep_spares(&self, slots: u32) {
        for slot in 0..slots {
            self.keep_spare(slot.cast_signed());
        }
    }

    /// Has a trainer wait for the next job on the GPU of this slot, unless one does.
    pub(super) fn keep_spare(&self, slot: i32) {
        let gpu = self.gpu_of(slot);
        let gpu = gpu.as_deref();
        if !self.app.config.spare_trainers || self.shutdown.is_cancelled() {
            return;
        }
        let mut waiting = self.spares.alive();
        if waiting.iter().any(|spare| spare.gpu.as_deref() == gpu) {
            return;
        }
        match self.start_spare(gpu) {
            Ok(spare) => waiting.push(spare),
            Err(error) => tracing::warn!(%error, "no trainer can be started ahead of its job"),
        }
    }

    fn start_spare(&self, gpu: Option<&str>) -> io::Result<Spare> {
        // Named like all of the service's folders there, of which the next worker clears away those that were left.
        let name = Uuid::new_v4().simple().to_string();
        let mut folder = tempfile::Builder::new();
        let folder = folder.prefix(&name).rand_bytes(0).permissions(Permissions::from_mode(private::FOLDER));
        let folder = folder.tempdir_in(self.app.runs())?;
        // Where there is a GPU, what a run needs lies there.
        let touched = if gpu.is_some() { 0 } else { machine::touched(&self.app.config) };
        let trainer = Trainer::wait(&self.place(folder.path(), gpu), touched)?;
        Ok(Spare { trainer, folder, gpu: gpu.map(str::to_owned) })
    }
}
