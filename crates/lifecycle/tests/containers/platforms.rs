//! What platforms ask of the phases: flags, variables, and what the containers have in common.

use crate::images::{USER, run_image};
use crate::site::{Done, Site};

/// A platform, and the version of its API.
pub(crate) struct Platform {
    pub(crate) api: &'static str,
    flags: Flags,
    login: Login,
    /// Where the volume of layers is.
    layers: &'static str,
}

/// Whose flags.
#[derive(Clone, Copy, PartialEq)]
enum Flags {
    /// All paths by `-flag=value`.
    Kpack,
    /// As few as it takes; the run image is that of the builder.
    Shipwright,
    /// By `-flag value`.
    Pack,
}

/// How the phases get to know the registry's password.
#[derive(Clone, Copy, PartialEq)]
enum Login {
    /// A configuration of Docker in the home.
    Home,
    /// `CNB_REGISTRY_AUTH`.
    Variable,
}

const fn platform(api: &'static str, flags: Flags, login: Login, layers: &'static str) -> Platform {
    Platform { api, flags, login, layers }
}

pub(crate) const PLATFORMS: &[Platform] = &[
    platform("0.7", Flags::Kpack, Login::Home, "/layers"),
    platform("0.8", Flags::Kpack, Login::Home, "/layers"),
    platform("0.13", Flags::Shipwright, Login::Home, "/tmp/.shp/layers"),
    platform("0.15", Flags::Pack, Login::Variable, "/layers"),
];

/// A program and its arguments.
pub(crate) type Step = (&'static str, Vec<String>);

impl Platform {
    /// The five phases, to make `image`, which may have been made as `previous` before.
    pub(crate) fn steps(&self, site: &Site, image: &str, previous: Option<&str>) -> [Step; 5] {
        let run_image = run_image(site);
        match self.flags {
            Flags::Kpack => kpack(image, &run_image, previous),
            Flags::Shipwright => shipwright(image, self.layers),
            Flags::Pack => pack(image, &run_image),
        }
    }

    /// The creator, in place of the five phases.
    pub(crate) fn creator(&self, site: &Site, image: &str) -> Step {
        let text = format!(
            "-app /workspace -cache-dir /cache -layers {} -report /var/report/report.toml -run-image {} -process-type web \
             {image}",
            self.layers,
            run_image(site)
        );
        ("creator", words(&text))
    }

    /// Runs a phase in a container of its own, made from `builder`.
    pub(crate) fn run(&self, site: &Site, builder: &str, step: &Step) -> Done {
        let (program, args) = step;
        let args: Vec<&str> = args.iter().map(String::as_str).collect();
        let options = self.options(site, program);
        let options: Vec<&str> = options.iter().map(String::as_str).collect();
        site.docker.run_image(&options, builder, &args)
    }

    fn options(&self, site: &Site, program: &str) -> Vec<String> {
        let mut options = words("--cap-drop ALL --security-opt no-new-privileges --user");
        options.push(USER.into());
        options.extend(["--entrypoint".into(), format!("/cnb/lifecycle/{program}")]);
        for (name, place) in [
            ("layers", self.layers),
            ("workspace", "/workspace"),
            ("platform", "/platform"),
            ("cache", "/cache"),
            ("home", "/home/builder"),
            ("report", "/var/report"),
        ] {
            options.extend(["--volume".into(), format!("{}:{place}", site.volume(name).display())]);
        }
        let mut variables = vec![format!("CNB_PLATFORM_API={}", self.api), "HOME=/home/builder".into()];
        if self.login == Login::Variable {
            variables.push(site.registry.auth("127.0.0.1"));
        }
        options.extend(variables.into_iter().flat_map(|variable| ["--env".into(), variable]));
        options
    }

    /// Makes the volumes that a build gets anew, with an app that greets.
    pub(crate) fn prepare(&self, site: &Site, greeting: &str) {
        for name in ["layers", "workspace", "platform", "home", "report"] {
            site.fresh_volume(name);
        }
        let write = |tail: &str, text: &str| crate::site::write(&site.volume(tail), text);
        write("workspace/greeting.txt", greeting);
        write("platform/env/FROM_PLATFORM", "yes");
        if self.login == Login::Home {
            write("home/.docker/config.json", &site.registry.docker_config());
        }
    }
}

fn words(text: &str) -> Vec<String> {
    text.split_whitespace().map(str::to_owned).collect()
}

fn kpack(image: &str, run_image: &str, previous: Option<&str>) -> [Step; 5] {
    let previous = previous.map(|name| format!("-previous-image={name}")).unwrap_or_default();
    [
        (
            "analyzer",
            words(&format!(
                "-layers=/layers -analyzed=/layers/analyzed.toml -run-image={run_image} {previous} -tag={image}-tag {image}"
            )),
        ),
        ("detector", words("-app=/workspace -group=/layers/group.toml -plan=/layers/plan.toml")),
        ("restorer", words("-group=/layers/group.toml -layers=/layers -cache-dir=/cache")),
        (
            "builder",
            words("-layers=/layers -app=/workspace -group=/layers/group.toml -plan=/layers/plan.toml"),
        ),
        (
            "exporter",
            words(&format!(
                "-layers=/layers -app=/workspace -group=/layers/group.toml -analyzed=/layers/analyzed.toml \
                 -project-metadata=/layers/project-metadata.toml -cache-dir=/cache -report=/var/report/report.toml \
                 -process-type=web {image} {image}-tag"
            )),
        ),
    ]
}

fn shipwright(image: &str, layers: &str) -> [Step; 5] {
    [
        ("analyzer", words(&format!("-layers={layers} {image}"))),
        ("detector", words(&format!("-app=/workspace -layers={layers}"))),
        ("restorer", words(&format!("-cache-dir=/cache -layers={layers}"))),
        ("builder", words(&format!("-app=/workspace -layers={layers}"))),
        (
            "exporter",
            words(&format!(
                "-layers={layers} -report=/var/report/report.toml -cache-dir=/cache -app=/workspace {image}"
            )),
        ),
    ]
}

fn pack(image: &str, run_image: &str) -> [Step; 5] {
    [
        ("analyzer", words(&format!("-log-level debug -run-image {run_image} -tag {image}-tag {image}"))),
        ("detector", words("-log-level debug -app /workspace -generated /layers/generated")),
        ("restorer", words("-log-level debug -cache-dir /cache")),
        ("builder", words("-log-level debug -app /workspace")),
        (
            "exporter",
            words(&format!(
                "-log-level debug -app /workspace -cache-dir /cache -report /var/report/report.toml -process-type web \
                 {image} {image}-tag"
            )),
        ),
    ]
}
