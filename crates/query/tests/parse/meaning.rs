//! Queries that mean the same, and what an index of live queries gets.

use crate::parsed;
use crate::support::things;

#[test]
fn queries_that_mean_the_same_have_one_canonical_form_and_others_do_not() {
    let canonical = |text: &str| parsed(text).canonical();
    let same = [
        ("age=1&name=a", "name=a&age=1"),
        ("age=1&age=1", "filter=age:eq:1"),
        ("filter=age:in:2,1", "filter={\"$or\":[{\"age\":1},{\"age\":2}]}"),
        ("filter={\"$not\":{\"$not\":{\"age\":1}}}", "age=1"),
        ("filter={\"$not\":{\"age\":{\"$lt\":1}}}", "filter=age:gte:1"),
        (
            "filter={\"$not\":{\"$or\":[{\"age\":1},{\"name\":\"a\"}]}}",
            "filter=age:ne:1&filter=name:ne:a",
        ),
        ("filter=price:eq:-0.0", "price=0"),
        ("sort=id", ""),
        ("sort=-name", "sort=-name,-id"),
        (
            "fields=id,name,body,age,price,done,at,meta,data,owner,rank,mail,site,day,html,file,code,pick",
            "",
        ),
        ("page=2&perPage=10", "limit=10&offset=10"),
    ];
    for (a, b) in same {
        assert_eq!(canonical(a), canonical(b), "{a} and {b}");
    }
    let distinct = [
        "",
        "age=1",
        "age=2",
        "name=1",
        "body=1",
        "filter=age:ne:1",
        "filter=age:gt:1",
        "filter=age:in:1,2",
        "filter=age:in:1,3",
        "filter=age:is_null",
        "filter=name:like:a",
        "filter=name:contains:a",
        "filter=meta:contains:a",
        "sort=age",
        "sort=-age",
        "sort=-id",
        "limit=5",
        "offset=5",
        "fields=name",
        "fields=age",
        "name=ab",
        "name=a&body=b",
        "filter={\"$or\":[{\"name\":\"a\"},{\"body\":\"b\"}]}",
    ];
    for (i, a) in distinct.iter().enumerate() {
        for b in &distinct[..i] {
            assert_ne!(canonical(a), canonical(b), "{a} and {b}");
        }
    }
}

#[test]
fn an_equality_index_gets_the_conjunct_with_the_fewest_values() {
    let things = things();
    let check = |text: &str, expected: Option<(&str, usize)>| {
        let found = alyx_query::equality_keys(&parsed(text).filter);
        let found = found.map(|(field, values)| (things.fields[field].name.clone(), values.len()));
        assert_eq!(
            found,
            expected.map(|(name, count)| (name.to_owned(), count)),
            "{text}"
        );
    };
    check("", None);
    check("age=1", Some(("age", 1)));
    check("filter=age:in:1,2&name=a&filter=price:gt:1", Some(("name", 1)));
    check("filter=age:in:1,2", Some(("age", 2)));
    check("filter=age:ne:1", None);
    check("filter={\"$or\":[{\"age\":1},{\"name\":\"a\"}]}", None);
}
