//! What must be set for a role that is a process of its own.

use crate::model::Config;
use crate::problem::{ConfigErrors, Origin, Problem};

/// What a role of its own cannot do without, beside security.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RoleNeeds {
    /// A control plane to follow.
    pub control_plane: bool,
    /// The database and the changes in it.
    pub data: bool,
}

impl Config {
    /// Checks that a role of its own can start with this configuration.
    ///
    /// # Errors
    /// Everything that is missing, together.
    pub fn check_role(&self, needs: RoleNeeds) -> Result<(), ConfigErrors> {
        let cluster = &self.cluster;
        let mut problems = Vec::new();
        let mut missing = |key: &str, message: &str| {
            problems.push(Problem {
                origin: Origin::Default,
                key: key.to_owned(),
                message: message.to_owned(),
            });
        };
        if cluster.token.is_none() && cluster.tls.is_none() {
            missing(
                "cluster.token",
                "roles do not talk to each other unprotected; set a secret of 32 characters or more, the same for every \
                 role, or `cluster.tls`",
            );
        }
        if needs.control_plane && cluster.control_plane.is_empty() {
            missing(
                "cluster.control_plane",
                "this role needs a control plane; name the `host:port` of each",
            );
        }
        if needs.data && cluster.nats.is_none() {
            missing(
                "cluster.nats",
                "roles in processes of their own tell each other of changes by NATS; name the server, such as \
                 nats://host:4222",
            );
        }
        if needs.data && !self.database.turso.enabled {
            missing(
                "database.turso.url",
                "roles in processes of their own share a libSQL server; name it, such as http://host:8080, or run \
                 `alyx serve` for all in one",
            );
        }
        if problems.is_empty() {
            Ok(())
        } else {
            Err(ConfigErrors::new(problems))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Secret;

    #[test]
    fn a_role_is_told_everything_that_it_misses() {
        let check = |config: &Config, needs: RoleNeeds, expected: &[&str]| {
            let found = config.check_role(needs);
            let keys: Vec<String> = found
                .err()
                .map(|errors| {
                    errors
                        .problems()
                        .iter()
                        .map(|problem| problem.key.clone())
                        .collect()
                })
                .unwrap_or_default();
            assert_eq!(keys, expected, "{needs:?}");
        };
        let all = RoleNeeds {
            control_plane: true,
            data: true,
        };
        let none = RoleNeeds {
            control_plane: false,
            data: false,
        };
        let mut config = Config::default();
        check(
            &config,
            all,
            &[
                "cluster.control_plane",
                "cluster.nats",
                "cluster.token",
                "database.turso.url",
            ],
        );
        check(&config, none, &["cluster.token"]);
        config.cluster.token = Some(Secret::new("x".repeat(32)));
        check(&config, none, &[]);
        config.cluster.control_plane = vec!["h:1".to_owned()];
        config.cluster.nats = Some(Secret::new("nats://h:1"));
        config.database.turso.enabled = true;
        check(&config, all, &[]);
    }
}
