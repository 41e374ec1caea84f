//! What the access rules let somebody do with files.

use alyx_core::{Error, ErrorKind, Permission, Result};
use alyx_query::Filter;
use alyx_rules::{Decision, Facts, FileAction};
use alyx_schema::Bucket;

use super::Authority;
use crate::auth::scope_missing;
use crate::files::within;

impl Authority {
    /// With which files of the bucket the caller may do that. Of an upload: what the file must be like.
    ///
    /// Errors: `FORBIDDEN` where there are none, whatever is stored; `SCOPE_MISSING`.
    pub(crate) fn files(&self, bucket: &Bucket, action: FileAction) -> Result<Filter> {
        let name = bucket.name.as_str();
        let permission = match action {
            FileAction::Read | FileAction::Download => Permission::ReadFiles(name),
            FileAction::Create | FileAction::Update | FileAction::Delete => Permission::WriteFiles(name),
        };
        if let Some(token) = &self.token
            && !token.scopes.allow(permission)
        {
            return Err(scope_missing(permission));
        }
        let Some(bound) = &self.bound else {
            return Ok(Filter::TRUE);
        };
        let facts = Facts::of(&bound.caller, bound.now);
        match bound.rules.decide_of_files(bucket, action, &facts) {
            Decision::Allow => Ok(Filter::TRUE),
            Decision::Filter(filter) => Ok(filter),
            Decision::Deny => {
                let what = if action == FileAction::Create {
                    "files"
                } else {
                    "its files"
                };
                let message = format!(
                    "the rules of the bucket `{name}` do not let you {} {what}",
                    action.word()
                );
                Err(Error::new(ErrorKind::Forbidden, "FORBIDDEN", message))
            }
        }
    }

    /// The files of the bucket that the caller may see; false of every file where there are none.
    pub(crate) fn visible_files(&self, bucket: &Bucket) -> Filter {
        let visible = self.files(bucket, FileAction::Read);
        within(bucket, visible.unwrap_or(Filter::FALSE))
    }
}
