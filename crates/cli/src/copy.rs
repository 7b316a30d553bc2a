//! `strata copy`: takes images from one place to another.

use crate::args::Beside;
use crate::images::{self, Names, failure, surroundings};
use crate::places::Places;
use crate::show::text::shown;
use crate::show::transfer::{Load, Way, watch};
use crate::show::{Drawn, Show, Stream};
use crate::{Outcome, args, output};
use std::path::Path;
use std::thread::available_parallelism;
use strata_oci::{Digest, Encoded};
use strata_phases::bill::is_merged;
use strata_phases::origins::beside::{carry, is_report, offer_copied};
use strata_phases::{Event, Failure, Observer as _};
use strata_spec::exit::Exit;
use strata_store::source::{Source, Surroundings, Target};
use strata_store::{Store, StoreError, StoredImage, Transfer, Tree, about, read_referrers};

/// Runs the command.
pub(crate) fn run(args: &args::Copy, places: &Places) -> Outcome {
    let show = |stream| Show::new(&args.show, stream, Drawn::Transfers, places);
    let parsed = |text: &String| {
        let what = format!("cannot copy '{}' to '{}'", args.from, args.to);
        Source::parse(text).map_err(|error| failure(Exit::InvalidArguments, &what, &error))
    };
    let both = parsed(&args.from).and_then(|from| Ok((from, parsed(&args.to)?)));
    let is_pipe = both.as_ref().is_ok_and(|(_, to)| is_standard_output(to));
    let show = show(if is_pipe { Stream::Err } else { Stream::Out });
    let copied = both
        .and_then(|(from, to)| Copy { args, from, to, show: &show }.run(&surroundings(places, &args.store)));
    if let (Err(failure), true) = (&copied, args.show.json) {
        show.event(Event::Failed(failure.clone()));
    }
    copied.map(|()| 0)
}

/// One run of the command.
struct Copy<'a> {
    args: &'a args::Copy,
    from: Source,
    to: Source,
    show: &'a Show,
}

/// What is copied.
enum What {
    Index(Tree),
    Image(Box<StoredImage>),
}

impl What {
    fn id(&self, place: &dyn Store) -> Option<String> {
        match self {
            Self::Image(image) => images::id(place, image),
            Self::Index(_) => None,
        }
    }
}

impl Copy<'_> {
    fn run(&self, surroundings: &Surroundings<'_>) -> Result<(), Failure> {
        let Self { args, from, to, show } = self;
        let what = format!("cannot copy '{}' to '{}'", args.from, args.to);
        let failed = |error: StoreError| failure(Exit::InvalidArguments, &what, &error);
        if args.all && !to.has_indexes() {
            return Err(failed(StoreError::NoIndexes));
        }
        let (store, what_is_copied) = self.find(surroundings, &what)?;
        let (referrers, left) = self.referrers(&*store, &what_is_copied).map_err(|error| {
            failed(error).hint("what refers to the image cannot be read; --no-referrers leaves it behind")
        })?;
        let target = create(to, from, surroundings, &what)?;
        let load = load(&what_is_copied, &referrers);
        let moved = watch(show, Way { from: None, to: &args.to }, &load, |progress| {
            let transfer = Transfer::new(target.store(), &*store).watched(progress);
            let copied = self.transfer(&transfer, &what_is_copied).and_then(|copy| {
                self.put_beside(&transfer, (&*store, target.store()), &what_is_copied, &copy, &referrers)
                    .map(|()| (copy.digest(), what_is_copied.id(target.store())))
            });
            finish(target, copied)
        });
        let moved = moved.map_err(|error| self.incomplete(Exit::Export, error, &what))?;
        self.tell_left(&left);
        let (digest, image_id) = moved.outcome;
        show.event(Event::Copied {
            from: args.from.clone(),
            to: args.to.clone(),
            digest: digest.to_string(),
            image_id,
            artifacts: referrers.len(),
            left_behind: left.len(),
            moved: moved.bytes,
            millis: moved.millis,
        });
        Ok(())
    }

    fn find(&self, surroundings: &Surroundings<'_>, what: &str) -> Result<(Box<dyn Store>, What), Failure> {
        let Self { args, from, to, .. } = self;
        if args.platform.is_none() && to.has_indexes() {
            let store = from.open(surroundings, None);
            let store = store.map_err(|error| failure(Exit::InvalidArguments, what, &error))?;
            if let Some(tree) = store.read_tree().map_err(|error| {
                images::not_kept(self.incomplete(Exit::InvalidArguments, error, what), from, surroundings)
            })? {
                return Ok((store, What::Index(tree)));
            }
        }
        let (store, image) = images::open(&args.from, surroundings, args.platform.as_ref(), Names::Anywhere)?;
        Ok((store, What::Image(Box::new(image))))
    }

    /// What refers to what is copied: what comes along, where both places have room for it, and what stays behind though
    /// nobody asked for that.
    fn referrers(&self, store: &dyn Store, what: &What) -> Result<(Vec<Tree>, Vec<Tree>), StoreError> {
        let Self { args, to, .. } = self;
        if args.no_referrers {
            return Ok(Default::default());
        }
        let found = match what {
            What::Index(tree) => read_referrers(store, tree.documents.iter().map(|(entry, _)| entry.digest)),
            What::Image(image) => read_referrers(store, [image.manifest_digest]),
        };
        let found = match found {
            // What lies beside an image in a daemon need not be of whoever has put the image there.
            Err(error) if !self.from.has_referrers() => {
                self.show.warn(Failure::caused(Exit::Other, "no report comes along", &error).chain());
                Vec::new()
            }
            found => found?,
        };
        let has_others = self.from.has_referrers() && to.has_referrers();
        // What others have attached comes along in any case.
        let (sboms, reports) = (output::takes(to, args.sbom), output::takes_reports(to, args.origins));
        let comes =
            |tree: &Tree| if is_report(tree) { reports } else { has_others && (sboms || !is_merged(tree)) };
        let is_unwanted = |tree: &Tree| match (is_report(tree), is_merged(tree)) {
            (true, _) => args.origins == Beside::Never,
            (_, true) => args.sbom == Beside::Never,
            _ => false,
        };
        let (along, mut left): (Vec<_>, Vec<_>) = found.into_iter().partition(comes);
        left.retain(|tree| !is_unwanted(tree));
        Ok((along, left))
    }

    /// Says what did not come along, and how it would have.
    fn tell_left(&self, left: &[Tree]) {
        let to = shown(&self.args.to);
        if left.is_empty() {
            return;
        }
        if !self.to.has_referrers() {
            let noun = if left.len() == 1 { "1 thing that refers" } else { "{} things that refer" };
            let things = noun.replace("{}", &left.len().to_string());
            return self
                .show
                .info(format!("{to} has room for reports only: {things} to the image stay behind"));
        }
        let (mut what, mut flags) = (Vec::new(), Vec::new());
        if left.iter().any(is_report) {
            what.push("reports of where the image comes from");
            flags.push("--origins always");
        }
        if left.iter().any(is_merged) {
            what.push("bill of materials");
            flags.push("--sbom always");
        }
        let tag = if matches!(self.to, Source::Layout { .. }) { ", or name a tag" } else { "" };
        self.show.warn(format!(
            "the {} stay behind, as programs expect nothing but an image in {to}: {} to take them along{tag}",
            what.join(" and the "),
            flags.join(" ")
        ));
    }

    /// Puts what refers to an image beside its copy.
    fn put_beside(
        &self,
        transfer: &Transfer<'_>,
        (from, to): (&dyn Store, &dyn Store),
        what: &What,
        copy: &Copied,
        referrers: &[Tree],
    ) -> Result<(), StoreError> {
        let place = (self.args.to.as_str(), self.args.origins);
        let (What::Image(image), Copied::Converted(copy)) = (what, copy) else {
            output::put_beside(transfer, to, referrers, place, self.show)?;
            offer_copied((from, to), &self.args.to, referrers, self.show);
            return Ok(());
        };
        if referrers.is_empty() {
            return Ok(());
        }
        if !self.to.has_manifests() {
            let about = about(referrers, &copy.manifest_descriptor());
            return output::put_beside(transfer, to, &about, place, self.show);
        }
        // The copy has another digest than the one that the reports name.
        if let Err(failure) = carry((from, image), (to, copy), &self.args.to, self.show) {
            self.show.warn(failure.chain());
        }
        Ok(())
    }

    fn transfer(&self, transfer: &Transfer<'_>, what: &What) -> Result<Copied, StoreError> {
        match what {
            What::Index(tree) => {
                transfer.tree(tree, &[])?;
                let root = tree.documents.last().map_or_else(|| Digest::of(b""), |(root, _)| root.digest);
                Ok(Copied::AsItIs(root))
            }
            What::Image(image) if self.from.has_manifests() => {
                transfer.image(&image.encoded(), &[]).map(|()| Copied::AsItIs(image.manifest_digest))
            }
            What::Image(image) => {
                let threads = available_parallelism().map_or(1, usize::from);
                transfer.converted(image, &[], threads).map(|encoded| Copied::Converted(Box::new(encoded)))
            }
        }
    }

    /// Layouts often have one image of an index only.
    fn incomplete(&self, exit: Exit, error: StoreError, what: &str) -> Failure {
        let is_missing = matches!(error, StoreError::Missing { .. });
        let failure = failure(exit, what, &error);
        let may_choose = is_missing && !self.args.all && self.args.platform.is_none();
        if may_choose { failure.hint("choose one image of the index with --platform") } else { failure }
    }
}

/// What came of a copy.
enum Copied {
    /// It has this digest.
    AsItIs(Digest),
    /// It was given documents, and layers that are packed otherwise.
    Converted(Box<Encoded>),
}

impl Copied {
    fn digest(&self) -> Digest {
        match self {
            Self::AsItIs(digest) => *digest,
            Self::Converted(encoded) => encoded.manifest_digest,
        }
    }
}

fn load(what: &What, referrers: &[Tree]) -> Load {
    let beside = referrers.iter().flat_map(|tree| &tree.blobs);
    match what {
        What::Index(tree) => Load::of(tree.blobs.iter().chain(beside)),
        What::Image(image) => {
            Load::of(image.image.layers().iter().map(|layer| &layer.descriptor).chain(beside))
        }
    }
}

fn create(
    to: &Source,
    from: &Source,
    surroundings: &Surroundings<'_>,
    what: &str,
) -> Result<Target, Failure> {
    if let Source::Layout { dir, .. } = to {
        output::check_writable(dir)?;
    }
    if is_standard_output(to) {
        output::check_pipe()?;
    }
    let name = from.name();
    let created = to.create(surroundings, name.as_ref());
    created.map_err(|error| failure(Exit::Export, what, &error))
}

/// Makes what was copied visible, or leaves nothing of it.
fn finish<T>(target: Target, copied: Result<T, StoreError>) -> Result<T, StoreError> {
    match copied {
        Ok(copied) => target.finish().map(|()| copied),
        Err(error) => {
            // What cannot be removed is an empty layout; why there is no image counts more.
            target.give_up().unwrap_or_default();
            Err(error)
        }
    }
}

fn is_standard_output(to: &Source) -> bool {
    matches!(to, Source::OciArchive { file, .. } | Source::DockerArchive { file, .. } if file == Path::new("-"))
}
