//! Pipelines and their versions.

use std::collections::BTreeMap;

use auth::caller::Caller;
use foundation::id;
use foundation::problem::{Kind, Problem};

use super::Operations;
use super::listing::{Field, Listed, Page, Query, page};
use crate::ir::package::Package;
use crate::types::pipeline::{
    PIPELINE_NAME_MAX_CHARS, Pipeline, TAG_MAX_CHARS, TAGS_MAX, VERSION_NAME_MAX_CHARS, Version,
};

/// A file that was uploaded, and what its names shall be.
#[derive(Debug, Clone, Default)]
pub struct Upload {
    /// The file's own name.
    pub file_name: String,
    /// Its content.
    pub bytes: Vec<u8>,
    /// Unique name; else the display name, else the file's.
    pub name: Option<String>,
    /// What pages show; else the name.
    pub display_name: Option<String>,
    /// Free text; else the package's own.
    pub description: Option<String>,
    /// The user's labels.
    pub tags: BTreeMap<String, String>,
    /// Where the source is.
    pub code_source_url: String,
}

/// A version that is to be.
#[derive(Debug, Clone, Default)]
pub struct NewVersion {
    /// Unique in its pipeline.
    pub name: String,
    /// What pages show; else the name.
    pub display_name: Option<String>,
    /// Free text.
    pub description: String,
    /// The user's labels.
    pub tags: BTreeMap<String, String>,
    /// Where the source is.
    pub code_source_url: String,
}

impl Operations {
    /// Makes a pipeline and its first version out of a file.
    ///
    /// # Errors
    /// When the package cannot run, a name is too long or taken, or the caller may not.
    pub async fn upload_pipeline(&self, caller: &Caller, upload: Upload) -> Result<(Pipeline, Version), Problem> {
        self.allow(caller, "create", "pipelines")?;
        let package = Package::from_file(&upload.file_name, &upload.bytes)?;
        let name =
            upload.name.clone().or_else(|| upload.display_name.clone()).unwrap_or_else(|| stem(&upload.file_name));
        let description = upload.description.clone().unwrap_or_else(|| package.ir.pipeline_info.description.clone());
        let pipeline = self.new_pipeline(&name, upload.display_name.clone(), description, upload.tags.clone())?;
        let version = self.new_version(
            &pipeline.id,
            &package,
            NewVersion {
                name,
                display_name: upload.display_name,
                description: pipeline.description.clone(),
                tags: BTreeMap::new(),
                code_source_url: upload.code_source_url,
            },
        )?;
        self.store.create_pipeline(pipeline.clone(), Some(version.clone())).await?;
        Ok((pipeline, version))
    }

    /// Makes a pipeline without a version.
    ///
    /// # Errors
    /// When the name is empty, too long or taken, or the caller may not.
    pub async fn create_pipeline(
        &self,
        caller: &Caller,
        name: &str,
        display_name: Option<String>,
        description: String,
        tags: BTreeMap<String, String>,
    ) -> Result<Pipeline, Problem> {
        self.allow(caller, "create", "pipelines")?;
        let pipeline = self.new_pipeline(name, display_name, description, tags)?;
        self.store.create_pipeline(pipeline.clone(), None).await?;
        Ok(pipeline)
    }

    /// Makes a version of a pipeline out of a package.
    ///
    /// # Errors
    /// When there is no such pipeline, a name is too long or taken, or the caller may not.
    pub async fn create_version(
        &self,
        caller: &Caller,
        pipeline_id: &str,
        package: &Package,
        new: NewVersion,
    ) -> Result<Version, Problem> {
        self.allow(caller, "create", "pipelines")?;
        let version = self.new_version(pipeline_id, package, new)?;
        self.store.create_version(version.clone()).await?;
        Ok(version)
    }

    /// A pipeline.
    ///
    /// # Errors
    /// When there is none of this id or the caller may not.
    pub fn pipeline(&self, caller: &Caller, id: &str) -> Result<Pipeline, Problem> {
        self.allow(caller, "get", "pipelines")?;
        Ok(self.store.pipeline(id)?)
    }

    /// A pipeline by its name.
    ///
    /// # Errors
    /// When there is none of this name or the caller may not.
    pub fn pipeline_by_name(&self, caller: &Caller, name: &str) -> Result<Pipeline, Problem> {
        self.allow(caller, "get", "pipelines")?;
        let found = self.store.pipelines()?.into_iter().find(|pipeline| pipeline.name == name);
        found.ok_or_else(|| Problem::not_found(format!("Pipeline {name} not found")))
    }

    /// A page of pipelines.
    ///
    /// # Errors
    /// When the query does not fit or the caller may not.
    pub fn pipelines(&self, caller: &Caller, query: &Query) -> Result<Page<Pipeline>, Problem> {
        self.allow(caller, "list", "pipelines")?;
        page(self.store.pipelines()?, query)
    }

    /// A version.
    ///
    /// # Errors
    /// When there is none of this id or the caller may not.
    pub fn version(&self, caller: &Caller, pipeline_id: &str, id: &str) -> Result<Version, Problem> {
        self.allow(caller, "get", "pipelines")?;
        Ok(self.store.version(pipeline_id, id)?)
    }

    /// A page of versions.
    ///
    /// # Errors
    /// When there is no such pipeline, the query does not fit or the caller may not.
    pub fn versions(&self, caller: &Caller, pipeline_id: &str, query: &Query) -> Result<Page<Version>, Problem> {
        self.allow(caller, "list", "pipelines")?;
        self.store.pipeline(pipeline_id)?;
        page(self.store.versions(pipeline_id)?, query)
    }

    /// Changes what a pipeline is called and its labels; what is `None` stays.
    ///
    /// # Errors
    /// When there is none of this id, a label is not allowed, or the caller may not.
    pub async fn change_pipeline(
        &self,
        caller: &Caller,
        id: &str,
        display_name: Option<String>,
        description: Option<String>,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<Pipeline, Problem> {
        self.allow(caller, "update", "pipelines")?;
        check_tags(tags.as_ref())?;
        let change = move |pipeline: &mut Pipeline| {
            set(&mut pipeline.display_name, display_name);
            set(&mut pipeline.description, description);
            set(&mut pipeline.tags, tags);
        };
        Ok(self.store.change_pipeline(id, change).await?)
    }

    /// Changes what a version is called and its labels; what is `None` stays.
    ///
    /// # Errors
    /// When there is none of this id, a label is not allowed, or the caller may not.
    pub async fn change_version(
        &self,
        caller: &Caller,
        ids: (&str, &str),
        display_name: Option<String>,
        description: Option<String>,
        tags: Option<BTreeMap<String, String>>,
    ) -> Result<Version, Problem> {
        self.allow(caller, "update", "pipelines")?;
        check_tags(tags.as_ref())?;
        let change = move |version: &mut Version| {
            set(&mut version.display_name, display_name);
            set(&mut version.description, description);
            set(&mut version.tags, tags);
        };
        Ok(self.store.change_version(ids.0, ids.1, change).await?)
    }

    /// Deletes a pipeline, with `cascade` also its versions.
    ///
    /// # Errors
    /// When there is none of this id, it has versions that were to stay, or the caller may not.
    pub async fn delete_pipeline(&self, caller: &Caller, id: &str, cascade: bool) -> Result<(), Problem> {
        self.allow(caller, "delete", "pipelines")?;
        if self.store.delete_pipeline(id, cascade).await? {
            return Ok(());
        }
        Err(Problem::new(Kind::Invalid, "Invalid input error: the pipeline has versions")
            .remedy("Delete them first, or delete the pipeline with cascade."))
    }

    /// Deletes a version.
    ///
    /// # Errors
    /// When there is none of this id or the caller may not.
    pub async fn delete_version(&self, caller: &Caller, pipeline_id: &str, id: &str) -> Result<(), Problem> {
        self.allow(caller, "delete", "pipelines")?;
        Ok(self.store.delete_version(pipeline_id, id).await?)
    }

    fn new_pipeline(
        &self,
        name: &str,
        display_name: Option<String>,
        description: String,
        tags: BTreeMap<String, String>,
    ) -> Result<Pipeline, Problem> {
        check_name("pipeline", name, PIPELINE_NAME_MAX_CHARS)?;
        check_tags(Some(&tags))?;
        Ok(Pipeline {
            id: id::uuid(),
            name: name.to_owned(),
            display_name: display_name.filter(|name| !name.is_empty()).unwrap_or_else(|| name.to_owned()),
            description,
            namespace: self.namespace.clone(),
            tags,
            created_at: self.store.now(),
        })
    }

    fn new_version(&self, pipeline_id: &str, package: &Package, new: NewVersion) -> Result<Version, Problem> {
        check_name("pipeline version", &new.name, VERSION_NAME_MAX_CHARS)?;
        check_tags(Some(&new.tags))?;
        Ok(Version {
            id: id::uuid(),
            pipeline_id: pipeline_id.to_owned(),
            display_name: new.display_name.filter(|name| !name.is_empty()).unwrap_or_else(|| new.name.clone()),
            name: new.name,
            description: new.description,
            code_source_url: new.code_source_url,
            tags: new.tags,
            created_at: self.store.now(),
            document: package.document(),
        })
    }
}

fn set<T>(field: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *field = value;
    }
}

fn check_name(kind: &str, name: &str, max: usize) -> Result<(), Problem> {
    if name.trim().is_empty() {
        return Err(Problem::invalid(format!("Invalid input error: a {kind} needs a name")));
    }
    if name.chars().count() > max {
        return Err(Problem::invalid(format!("Invalid input error: the {kind} name is longer than {max} characters")));
    }
    Ok(())
}

fn check_tags(tags: Option<&BTreeMap<String, String>>) -> Result<(), Problem> {
    let Some(tags) = tags else { return Ok(()) };
    if tags.len() > TAGS_MAX {
        return Err(Problem::invalid(format!("Invalid input error: there are more than {TAGS_MAX} tags")));
    }
    for (key, value) in tags {
        if key.is_empty() || key.contains('.') || key.chars().count() > TAG_MAX_CHARS {
            let text =
                format!("Invalid input error: tag {key:?}: a key has 1 to {TAG_MAX_CHARS} characters and no dot");
            return Err(Problem::invalid(text));
        }
        if value.chars().count() > TAG_MAX_CHARS {
            let text = format!("Invalid input error: tag {key:?}: a value has at most {TAG_MAX_CHARS} characters");
            return Err(Problem::invalid(text));
        }
    }
    Ok(())
}

/// A file's name without the ending of a package.
fn stem(file_name: &str) -> String {
    let name = file_name.rsplit('/').next().unwrap_or(file_name);
    let endings = [".tar.gz", ".tgz", ".zip", ".yaml", ".yml", ".json"];
    let ending = endings.iter().find(|ending| name.ends_with(*ending));
    ending.map_or(name, |ending| &name[..name.len() - ending.len()]).to_owned()
}

fn tag_field(tags: &BTreeMap<String, String>, name: &str) -> Option<Field> {
    let key = name.strip_prefix("tags.")?;
    Some(tags.get(key).map_or(Field::None, |value| Field::Text(value.clone())))
}

impl Listed for Pipeline {
    const KIND: &'static str = "Pipeline";

    fn id(&self) -> &str {
        &self.id
    }

    fn field(&self, name: &str) -> Option<Field> {
        Some(match name {
            "id" | "pipeline_id" => Field::Text(self.id.clone()),
            "name" => Field::Text(self.name.clone()),
            "display_name" => Field::Text(self.display_name.clone()),
            "created_at" => Field::Time(self.created_at),
            "description" => Field::Text(self.description.clone()),
            "namespace" => Field::Text(self.namespace.clone()),
            _ => return tag_field(&self.tags, name),
        })
    }

    fn has_field(name: &str) -> bool {
        matches!(name, "id" | "pipeline_id" | "name" | "display_name" | "created_at" | "description" | "namespace")
            || name.starts_with("tags.")
    }
}

impl Listed for Version {
    const KIND: &'static str = "PipelineVersion";

    fn id(&self) -> &str {
        &self.id
    }

    fn field(&self, name: &str) -> Option<Field> {
        Some(match name {
            "id" | "pipeline_version_id" => Field::Text(self.id.clone()),
            "name" => Field::Text(self.name.clone()),
            "display_name" => Field::Text(self.display_name.clone()),
            "created_at" => Field::Time(self.created_at),
            "description" => Field::Text(self.description.clone()),
            "status" => Field::Text("READY".to_owned()),
            "pipeline_spec" => Field::Text(self.document.to_string()),
            _ => return tag_field(&self.tags, name),
        })
    }

    fn has_field(name: &str) -> bool {
        matches!(
            name,
            "id" | "pipeline_version_id"
                | "name"
                | "display_name"
                | "created_at"
                | "description"
                | "status"
                | "pipeline_spec"
        ) || name.starts_with("tags.")
    }
}
