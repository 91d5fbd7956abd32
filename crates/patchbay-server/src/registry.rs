//! The models of the server, by name.

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use crate::loader::{self, LoadPlan};
use crate::memory::Budget;
use crate::model::{Model, State};
use crate::settings::Settings;
use crate::wire::model::ModelList;
use crate::{Failure, name};

/// The models, by name. Loads run on threads of their own; a model that is removed lives on until its last request is
/// answered.
#[derive(Debug, Default)]
pub struct Registry {
    models: RwLock<BTreeMap<String, Arc<Model>>>,
}

/// What came of asking for a model to be loaded.
#[derive(Clone, Debug)]
pub enum Placed {
    /// A load began, or was going on already.
    Loading(Arc<Model>),
    /// It was there already.
    Ready(Arc<Model>),
}

impl Placed {
    /// The model.
    pub fn model(&self) -> &Arc<Model> {
        match self {
            Self::Loading(model) | Self::Ready(model) => model,
        }
    }
}

impl Registry {
    fn read(&self) -> std::sync::RwLockReadGuard<'_, BTreeMap<String, Arc<Model>>> {
        self.models.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, BTreeMap<String, Arc<Model>>> {
        self.models.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// Loads a model under a name, unless it is there. One whose load failed is loaded again.
    ///
    /// # Errors
    /// Status 422 for a name that cannot be, 409 where the name is taken by another source, device or type.
    pub(crate) fn put(
        &self,
        name: &str,
        plan: LoadPlan,
        settings: &Settings,
        budget: &Budget,
    ) -> Result<Placed, Failure> {
        name::check_model(name)?;
        let mut models = self.write();
        if let Some(there) = models.get(name) {
            match (there.state(), there.plan == plan) {
                (State::Ready(_), true) => return Ok(Placed::Ready(Arc::clone(there))),
                (State::Loading(_), true) => return Ok(Placed::Loading(Arc::clone(there))),
                (State::Failed(_), _) => {}
                (_, false) => {
                    let LoadPlan { source, device, dtype } = &there.plan;
                    let detail = format!("the name `{name}` is taken by {source} (device {device}, dtype {dtype})");
                    let hint = format!("take another name, or DELETE /v1/models/{name} first");
                    return Err(Failure::new(409, "model_exists", detail).hint(hint));
                }
            }
        }
        let model = Arc::new(Model::new(name.to_owned(), plan));
        models.insert(name.to_owned(), Arc::clone(&model));
        loader::start(Arc::clone(&model), settings, budget);
        Ok(Placed::Loading(model))
    }

    /// The model of a name; without a name, the only one.
    ///
    /// # Errors
    /// Status 404 for a name that no model has, 400 without a name where there are none or several.
    pub fn find(&self, name: Option<&str>) -> Result<Arc<Model>, Failure> {
        let models = self.read();
        let names = || models.keys().map(String::as_str);
        match (name, models.len()) {
            (Some(name), _) => models.get(name).cloned().ok_or_else(|| {
                Failure::new(404, "unknown_model", format!("there is no model `{name}`"))
                    .hint(format!("PUT /v1/models/{name} loads one"))
                    .suggest(name, names())
            }),
            (None, 1) => models.values().next().cloned().ok_or_else(|| Failure::internal("a model vanished")),
            (None, count) => {
                let detail = format!("`model` may be left out where there is one model; here are {count}");
                let hint = "PUT /v1/models/{id} loads one";
                Err(Failure::new(400, "missing_field", detail).hint(hint).suggest("", names()).at("/model"))
            }
        }
    }

    /// Removes a model. Requests that it has accepted are still answered.
    ///
    /// # Errors
    /// Status 404 for a name that no model has.
    pub fn remove(&self, name: &str) -> Result<(), Failure> {
        let removed = self.write().remove(name);
        // What is not there is said by the one that knows the other names.
        let Some(found) = removed else { return self.find(Some(name)).map(drop) };
        // Whoever lets go of the model last joins its worker, which may still be computing.
        std::thread::spawn(move || found.set(State::Failed("it was unloaded".to_owned())));
        Ok(())
    }

    /// Every model.
    pub fn all(&self) -> Vec<Arc<Model>> {
        self.read().values().cloned().collect()
    }

    /// Every model's description.
    pub fn list(&self) -> ModelList {
        ModelList { object: "list", data: self.all().iter().map(|model| model.view()).collect() }
    }
}
