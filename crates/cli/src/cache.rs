//! `strata cache`: what builds have kept, and what of it may go.

use crate::args::{self, CacheCommand};
use crate::places::Places;
use crate::show::{bytes, print, view};
use crate::{Outcome, images};
use serde_json::{Value, json};
use std::time::{Duration, SystemTime};
use strata_decide::prune::{Candidate, Rules, prune};
use strata_oci::Reference;
use strata_phases::Failure;
use strata_spec::cache::CacheMetadata;
use strata_spec::exit::Exit;
use strata_store::StoreError;
use strata_store::cache::{Cache as _, Kept, Removal, Shelf, VolumeCache};

/// Runs the command.
pub(crate) fn run(args: &args::Cache, places: &Places) -> Outcome {
    let shelf = Shelf::new(places.caches());
    match &args.command {
        CacheCommand::Ls { json } => list(&shelf, places, *json),
        CacheCommand::Du { app, json } => usage(&shelf, app, places, *json),
        CacheCommand::Prune(args) => remove(&shelf, args, places),
    }
    .map(|()| 0)
}

fn failed(error: &StoreError) -> Failure {
    images::failure(Exit::Other, "cannot look after the caches", error)
}

/// What an app's cache is called: an image's name without a tag, or a folder.
pub(crate) fn of_image(name: &Reference) -> String {
    format!("{}/{}", name.registry(), name.repository())
}

/// The caches of these apps; of none is of all.
fn chosen(shelf: &Shelf, apps: &[String], places: &Places) -> Result<Vec<Kept>, Failure> {
    let mut caches = shelf.list().map_err(|error| failed(&error))?;
    let is_meant = |cache: &Kept, app: &String| {
        let is_image = app.parse().is_ok_and(|name| of_image(&name) == cache.app);
        is_image || *app == cache.app || places.current.join(app).display().to_string() == cache.app
    };
    if let Some(unknown) = apps.iter().find(|app| !caches.iter().any(|cache| is_meant(cache, app))) {
        return Err(Failure::new(Exit::InvalidArguments, format!("there is no cache of '{unknown}'"))
            .hint("`strata cache ls` shows which there are"));
    }
    if !apps.is_empty() {
        caches.retain(|cache| apps.iter().any(|app| is_meant(cache, app)));
    }
    Ok(caches)
}

/// How long ago a cache was used; not at all, should the clock have gone back.
fn age(cache: &Kept, places: &Places) -> Duration {
    places.now.duration_since(cache.used).unwrap_or_default()
}

fn list(shelf: &Shelf, places: &Places, as_json: bool) -> Result<(), Failure> {
    let caches = chosen(shelf, &[], places)?;
    if as_json {
        let seconds =
            |time: SystemTime| time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs();
        let value = |cache: &Kept| {
            json!({
                "app": cache.app, "size": cache.size, "used": seconds(cache.used), "path": cache.dir,
            })
        };
        return print_json(caches.iter().map(value).collect());
    }
    let width = caches.iter().map(|cache| cache.app.chars().count()).max().unwrap_or(0);
    for cache in &caches {
        let (size, age) = (bytes(cache.size), ago(age(cache, places)));
        print(&format!("{:width$}  {size:>9}  used {age}", cache.app));
    }
    Ok(())
}

/// A length of time, roughly, for people.
fn ago(age: Duration) -> String {
    let minutes = age.as_secs() / 60;
    match minutes {
        0 => "just now".to_owned(),
        1..120 => format!("{minutes} min ago"),
        120..2880 => format!("{} h ago", minutes / 60),
        _ => format!("{} days ago", minutes / 60 / 24),
    }
}

/// A layer of a cache, and its bytes.
struct Held {
    name: String,
    size: u64,
}

/// What is in a cache. One that cannot be understood has nothing that anybody could use.
fn held(cache: &Kept) -> Result<Vec<Held>, StoreError> {
    let volume = VolumeCache::open(&cache.dir)?;
    let Some(text) = volume.metadata()? else { return Ok(Vec::new()) };
    let metadata = CacheMetadata::parse(&text).unwrap_or_default();
    let sbom = Some(("SBOM files".to_owned(), metadata.sbom.sha.clone())).filter(|(_, sha)| !sha.is_empty());
    let layers = metadata.buildpacks.iter().flat_map(|buildpack| {
        buildpack.layers.iter().map(|(name, layer)| (format!("{}:{name}", buildpack.key), layer.sha.clone()))
    });
    let mut all = Vec::new();
    for (name, sha) in layers.chain(sbom) {
        let Ok(diff_id) = sha.parse() else { continue };
        // One that is absent is found out by whoever restores it.
        let size = volume.layer_size(&diff_id)?.unwrap_or(0);
        all.push(Held { name, size });
    }
    all.sort_by_key(|held| std::cmp::Reverse(held.size));
    Ok(all)
}

fn usage(shelf: &Shelf, apps: &[String], places: &Places, as_json: bool) -> Result<(), Failure> {
    let caches = chosen(shelf, apps, places)?;
    let mut values = Vec::new();
    let total: u64 = caches.iter().map(|cache| cache.size).sum();
    for cache in &caches {
        let layers = held(cache).map_err(|error| failed(&error))?;
        if as_json {
            let layers: Vec<Value> =
                layers.iter().map(|layer| json!({ "layer": layer.name, "size": layer.size })).collect();
            values.push(json!({ "app": cache.app, "size": cache.size, "layers": layers }));
            continue;
        }
        print(&format!("{:>9}  {}", bytes(cache.size), cache.app));
        for layer in layers {
            print(&format!("{:>9}    {}", bytes(layer.size), layer.name));
        }
    }
    if as_json {
        return print_json(values);
    }
    print(&format!("{:>9}  in {}", bytes(total), view::count(caches.len(), "cache")));
    Ok(())
}

fn remove(shelf: &Shelf, args: &args::PruneCache, places: &Places) -> Result<(), Failure> {
    let caches = chosen(shelf, &args.app, places)?;
    let candidates: Vec<Candidate> =
        caches.iter().map(|cache| Candidate { age: age(cache, places), size: cache.size }).collect();
    let rules = Rules { older_than: args.limit(), max_size: args.max_size };
    let (mut count, mut size) = (0, 0);
    for place in prune(&candidates, rules) {
        let cache = &caches[place];
        let removal = if args.dry_run { Ok(Removal::Removed) } else { shelf.remove(cache) };
        if removal.map_err(|error| failed(&error))? == Removal::Busy {
            print(&format!("{:>9}  {}  is being written by a build; left", bytes(cache.size), cache.app));
            continue;
        }
        (count, size) = (count + 1, size + cache.size);
        print(&format!("{:>9}  {}", bytes(cache.size), cache.app));
    }
    let would = if args.dry_run { "would be " } else { "" };
    print(&format!("{:>9}  in {} {would}removed", bytes(size), view::count(count, "cache")));
    if args.limit() != args.older_than && count < caches.len() {
        let left = view::count(caches.len() - count, "cache");
        print(&format!("{left} used in the last 30 days; --all removes all"));
    }
    Ok(())
}

fn print_json(values: Vec<Value>) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&values)
        .map_err(|error| Failure::caused(Exit::Other, "cannot print the caches as JSON", &error))?;
    print(&text);
    Ok(())
}
