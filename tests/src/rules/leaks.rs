//! Nothing in the repository speaks of one developer's machine: its paths, or where its packages come from.

use super::{Finding, TextFile};

// The patterns are put together from parts, else this file would break its own rule.
const MACHINE_PATHS: [&str; 5] = [
    concat!("/wo", "rk/"),
    concat!("/fa", "rm/"),
    concat!("/tmp/", "targets"),
    concat!("/tmp/", "bash_jobs"),
    concat!("/root", "/."),
];

const REGISTRY_HOSTS: [&str; 6] = [
    concat!("crates", ".io"),
    concat!("registry.npmjs", ".org"),
    concat!("pypi", ".org"),
    concat!("proxy.golang", ".org"),
    concat!("jfrog", ".io"),
    concat!("replace", "-with"),
];

const LOCK_SOURCE: &str = concat!("registry+https://github.com/rust-lang/crates", ".io-index");

/// No absolute path of a developer's machine stands in any file.
pub fn machine_paths(file: &TextFile) -> Vec<Finding> {
    let inside_longer_path = |line: &str, at: usize| {
        line[..at].ends_with(|c: char| c.is_alphanumeric() || ['_', '-', '.', '*', '}', '>'].contains(&c))
    };
    let found = |line: &str| {
        MACHINE_PATHS
            .into_iter()
            .find(|path| line.match_indices(path).any(|(at, _)| !inside_longer_path(line, at)))
    };
    file.numbered_lines()
        .filter_map(|(number, line)| found(line).map(|path| (number, path)))
        .map(|(number, path)| {
            let problem = format!("names the machine path `{path}`");
            file.finding(
                number,
                problem,
                "use a path from the repository root, an environment variable or a setting",
            )
        })
        .collect()
}

/// No file names a package registry or mirror; the lock file names cargo's default one alone.
pub fn registry_hosts(file: &TextFile) -> Vec<Finding> {
    if file.path.ends_with("Cargo.lock") {
        return file
            .numbered_lines()
            .filter(|(_, line)| {
                line.trim()
                    .strip_prefix("source = ")
                    .is_some_and(|it| it.trim_matches('"') != LOCK_SOURCE)
            })
            .map(|(number, _)| {
                file.finding(
                    number,
                    "a package from elsewhere",
                    "lock against cargo's default registry",
                )
            })
            .collect();
    }
    file.numbered_lines()
        .filter_map(|(number, line)| Some((number, REGISTRY_HOSTS.into_iter().find(|host| line.contains(host))?)))
        .map(|(number, host)| {
            let problem = format!("names the package registry by `{host}`");
            file.finding(
                number,
                problem,
                "leave it to cargo's own settings, or link to the project's documentation",
            )
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_machine_path_is_found() {
        for path in MACHINE_PATHS {
            assert_eq!(
                machine_paths(&TextFile::new("a.md", format!("x\nsee {path}here\n")))[0].line,
                2,
                "{path}"
            );
        }
        let inside = format!("https://example.org{}a and ..{}b", MACHINE_PATHS[0], MACHINE_PATHS[0]);
        assert!(machine_paths(&TextFile::new("a.md", inside)).is_empty());
    }

    #[test]
    fn a_registry_host_is_found() {
        for host in REGISTRY_HOSTS {
            assert_eq!(
                registry_hosts(&TextFile::new("a.toml", format!("url = \"https://{host}\"\n"))).len(),
                1,
                "{host}"
            );
        }
        let lock = |source: &str| TextFile::new("Cargo.lock", format!("name = \"a\"\nsource = \"{source}\"\n"));
        assert!(registry_hosts(&lock(LOCK_SOURCE)).is_empty());
        assert_eq!(registry_hosts(&lock("git+https://example.org/a"))[0].line, 2);
    }
}
