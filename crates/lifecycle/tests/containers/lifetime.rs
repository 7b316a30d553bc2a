//! The life of an image: built, built again, put onto another base, and run after each of that.

use crate::images::{BUILDER, import_builder, push_run_image, run_image};
use crate::platforms::{PLATFORMS, Platform, Step};
use crate::site::{Done, Site};

/// What the phases of one build said.
struct Build {
    /// All of it, one phase after the other.
    log: Done,
    /// The name of the image by digest.
    identifier: String,
}

fn site() -> Site {
    let site = Site::new();
    import_builder(&site);
    push_run_image(&site, "one");
    site
}

fn build(site: &Site, platform: &Platform, image: &str, greeting: &str, steps: &[Step]) -> Build {
    platform.prepare(site, greeting);
    let mut log = Done { code: 0, stdout: String::new(), stderr: String::new() };
    for step in steps {
        let done = platform.run(site, BUILDER, step);
        log.stdout += &format!("$ {} {:?} # {}\n{}", step.0, step.1, platform.api, done.stdout);
        log.stderr += &done.stderr;
        log.code = done.code;
        assert_eq!(log.code, 0, "{}\n{}", log.stdout, log.stderr);
    }
    let (name, _) = image.rsplit_once(':').unwrap();
    Build { log, identifier: format!("{name}@{}", reported_digest(site)) }
}

/// The digest, cut out of the report as platforms do it.
fn reported_digest(site: &Site) -> String {
    let report = std::fs::read_to_string(site.volume("report/report.toml")).unwrap();
    let lines: Vec<&str> = report.lines().filter(|line| line.contains("digest")).collect();
    let [line] = lines[..] else { panic!("{report}") };
    line.split('"').nth(1).unwrap().to_owned()
}

/// What the image says when Docker has pulled it from the registry.
fn answer(site: &Site, image: &str) -> String {
    site.docker.run(&["pull", "--quiet", image]).ok();
    let user = ["--user", "4242:4242", "--cap-drop", "ALL", "--read-only"];
    site.docker.run_image(&user, image, &[]).ok().stdout
}

/// Builds twice, with another app the second time, which is then put onto another base.
fn live(site: &Site, platform: &Platform, image: &str, steps: impl Fn(Option<&str>) -> Vec<Step>) {
    site.fresh_volume("cache");
    let first = build(site, platform, image, "hello", &steps(None));
    first.log.ok().says(&[
        "from the platform: yes",
        "tools: made anew",
        "server: made anew",
        "Adding layer 'test/server:program'\n",
        "Adding layer 'test/server:both'\n",
        "Adding cache layer 'test/tools:tools'\n",
        "Adding cache layer 'test/server:both'\n",
    ]);
    assert_eq!(answer(site, image), "compiled hello, again; base one, user 4242\n");

    let second = build(site, platform, image, "bye", &steps(Some(&first.identifier)));
    second.log.says(&[
        "tools: from the cache",
        "server: from the cache",
        "server: in the previous image",
        "Reusing layer 'test/server:program'\n",
        "Reusing layer 'test/server:both'\n",
        "Reusing layer 'buildpacksio/lifecycle:launcher'\n",
        "Adding layer 'test/server:assets'\n",
        "Reusing cache layer 'test/tools:tools'\n",
    ]);
    assert_ne!(first.identifier, second.identifier);
    assert_eq!(answer(site, image), "compiled bye, again; base one, user 4242\n");
    // By its digest the first one is still there.
    assert_eq!(answer(site, &first.identifier), "compiled hello, again; base one, user 4242\n");
}

/// Puts an image onto another base of the same name.
fn rebase(site: &Site, platform: &Platform, image: &str, word: &str) {
    push_run_image(site, word);
    platform.prepare(site, "nothing");
    let args = ["-report", "/var/report/report.toml", "-run-image", &run_image(site), image];
    let step = ("rebaser", args.map(str::to_owned).to_vec());
    platform.run(site, BUILDER, &step).ok();
    let (name, _) = image.rsplit_once(':').unwrap();
    let identifier = format!("{name}@{}", reported_digest(site));
    for name in [image, &identifier] {
        assert_eq!(answer(site, name), format!("compiled bye, again; base {word}, user 4242\n"));
    }
}

#[test]
fn five_containers_build_an_image_that_can_be_run_built_again_and_rebased() {
    let site = site();
    for platform in PLATFORMS {
        let image = site.registry.name(&format!("apps/phases:{}", platform.api));
        live(&site, platform, &image, |previous| platform.steps(&site, &image, previous).into());
        rebase(&site, platform, &image, &format!("after-{}", platform.api));
        push_run_image(&site, "one");
    }
}

#[test]
fn the_creator_does_the_same_in_one_container() {
    let site = site();
    for platform in PLATFORMS {
        let image = site.registry.name(&format!("apps/creator:{}", platform.api));
        live(&site, platform, &image, |_| vec![platform.creator(&site, &image)]);
    }
}
