//! `user`: who serves when root starts it.

use super::read;
use crate::config::{User, problem::Problems, raw::Entry};

/// `"name"`, or with a group `"name:group"`; as nginx has it, a space does as well.
pub(super) fn user(entry: &Entry, problems: &mut Problems) -> Option<User> {
    let word = read::string_for(entry, "a user's name", problems)?;
    let text = word.as_str();
    let (name, group) =
        text.split_once([':', ' ']).map_or((text, None), |(name, group)| (name, Some(group.trim_start())));
    let is_name = |name: &str| !name.is_empty() && !name.contains([':', '/', ' ', '\0']);
    if !is_name(name) || !group.is_none_or(is_name) {
        let title = format!("`{}` is not a user's name", word.shown());
        problems
            .error(title)
            .at(word.at(), "write \"coregate\", or \"coregate:www-data\" for a group as well");
        return None;
    }
    Some(User { name: name.into(), group: group.map(Into::into) })
}

#[cfg(test)]
mod tests {
    use crate::config::load::testing::{check_problems, good};

    fn text(user: &str) -> String {
        format!("user = {user}\nlisten = ':80'\n[routes]\n'/' = 'http://a'\n")
    }

    #[test]
    fn a_user_may_have_a_group() {
        let check = |written: &str, name: &str, group: Option<&str>| {
            let user = good(&text(written)).user.unwrap();
            assert_eq!((&*user.name, user.group.as_deref()), (name, group));
        };
        check("'www'", "www", None);
        check("'www:web'", "www", Some("web"));
        check("'www web'", "www", Some("web"));
    }

    #[test]
    fn what_is_no_name_is_an_error() {
        let check = |written: &str| {
            let remark = "[write \"coregate\", or \"coregate:www-data\" for a group as well]";
            let inner = written.trim_matches('\'');
            let shown = if inner.is_empty() { written } else { inner };
            check_problems(&text(written), &[&format!("{shown} -> `{inner}` is not a user's name {remark}")]);
        };
        check("'a:'");
        check("':b'");
        check("'a:b:c'");
        check("'a/b'");
        check_problems(&text("1000"), &["1000 -> `user` must be a user's name, not an integer"]);
    }
}
