//! Models that a process answers for beside the one that it was started with: they have the same base, whose weights are in
//! memory once.

use std::path::Path;

use super::question::{Servable, unexpected};
use super::served::{Failure, Served};
use crate::app::{App, models};
use crate::domain::id::ModelId;
use crate::domain::model::ModelFile;
use crate::domain::serving::{Answered, Loading, Question};
use crate::private;

/// As many are loaded at once; the one that was asked longest ago is unloaded for another.
const MOST: usize = 16;

/// The models that are loaded, the one that was asked last behind the others.
#[derive(Default)]
pub(super) struct Beside {
    loaded: Vec<ModelId>,
    /// How many there have been: each has a folder of its own.
    count: u64,
}

impl Beside {
    /// Has the process in `folder` answer for the model, and gives the name that it has there.
    ///
    /// # Errors
    /// Its files are damaged, or the process cannot load it.
    pub(super) async fn admit(
        &mut self,
        app: &App,
        (served, folder): (&mut Served, &Path),
        servable: &Servable,
    ) -> Result<String, Failure> {
        let id = servable.model.id;
        if !self.is_there(id) {
            if let Some(last) = self.without_room() {
                done(served, Question::Unload(last.0.to_string())).await?;
            }
            self.count += 1;
            let directory = format!("beside-{}", self.count);
            let loaded = load(app, (served, folder), servable, &directory).await;
            // It has been read, or never will be.
            if let Err(error) = tokio::fs::remove_dir_all(folder.join(&directory)).await {
                tracing::debug!(%error, "the files of a model beside another one stay");
            }
            loaded?;
            tracing::info!(model = %id, "serving a model beside others");
        }
        self.loaded.push(id);
        Ok(id.0.to_string())
    }

    /// Whether the model is loaded; it then waits to be put behind the others.
    fn is_there(&mut self, id: ModelId) -> bool {
        let place = self.loaded.iter().position(|loaded| *loaded == id);
        place.map(|place| self.loaded.remove(place)).is_some()
    }

    /// The model that there is no room for if another one is loaded.
    fn without_room(&mut self) -> Option<ModelId> {
        (self.loaded.len() >= MOST).then(|| self.loaded.remove(0))
    }
}

/// Hands the process what the model has beside the weights that are there already, and waits until it has read that.
async fn load(
    app: &App,
    (served, folder): (&mut Served, &Path),
    servable: &Servable,
    name: &str,
) -> Result<(), Failure> {
    let is_there = |file: &&ModelFile| file.is_of_base() || file.is_whole_weights();
    let files: Vec<ModelFile> = servable.files.iter().filter(|file| !is_there(file)).cloned().collect();
    // Beside the process's folder, where nothing but the service can write.
    let staged = folder.with_extension(name);
    private::make_folder(&staged, private::FOLDER).map_err(|error| Failure::Broken(error.to_string()))?;
    let fetched = models::fetch(app, &servable.model, &files, &staged).await.map_err(Failure::of);
    let handed = fetched.and_then(|()| served.hand_over(&staged, name));
    if handed.is_err() {
        let _ = tokio::fs::remove_dir_all(&staged).await;
    }
    handed?;
    let loading = Loading { name: servable.model.id.0.to_string(), directory: name.into() };
    done(served, Question::Load(loading)).await
}

/// Has the process do something that has no answer.
async fn done(served: &mut Served, question: Question) -> Result<(), Failure> {
    served.ask(None, question).await?;
    match served.hear().await? {
        Answered::Done => Ok(()),
        Answered::Error(refusal) if refusal.param.is_some() => Err(Failure::Refused(refusal)),
        Answered::Error(refusal) => Err(Failure::Broken(refusal.message)),
        other => Err(unexpected(&other)),
    }
}

#[cfg(test)]
mod tests {
    use super::{Beside, MOST};
    use crate::domain::id::ModelId;

    #[test]
    fn the_model_that_was_asked_longest_ago_makes_room() {
        let (models, mut beside) = ([(); MOST].map(|()| ModelId::new()), Beside::default());
        for id in models {
            assert!(!beside.is_there(id) && beside.without_room().is_none());
            beside.loaded.push(id);
        }
        // The first is asked again, so that the second is the last.
        assert!(beside.is_there(models[0]));
        beside.loaded.push(models[0]);
        assert!(!beside.is_there(ModelId::new()));
        assert_eq!(beside.without_room(), Some(models[1]));
    }
}
