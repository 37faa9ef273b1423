//! Pages: every row once, whatever happens between two of them; tokens that cannot be bent.

use proptest::collection::vec;
use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone, PartialEq)]
struct Run {
    id: String,
    score: Option<i64>,
    name: String,
}

impl Row for Run {
    fn key(&self) -> &str {
        &self.id
    }

    fn field(&self, name: &str) -> Value {
        match name {
            "score" => self.score.map_or(Value::Nothing, Value::Integer),
            "name" => Value::Text(self.name.clone()),
            _ => Value::Nothing,
        }
    }
}

fn run(id: usize, score: Option<i64>) -> Run {
    Run { id: format!("{id:03}"), score, name: format!("Run {}", id % 4) }
}

fn query(descending: bool, filter: Vec<Predicate>) -> Query {
    Query { list: "runs/kubeflow".into(), filter, sort: Sort { field: "score".into(), descending } }
}

fn predicate(field: &str, comparison: Comparison, values: Vec<Value>) -> Predicate {
    Predicate { field: field.into(), comparison, values }
}

/// All pages, one after the other, through tokens.
fn walk(mut rows: Vec<Run>, query: &Query, size: usize, mut between: impl FnMut(&mut Vec<Run>)) -> Vec<String> {
    let signer = Signer::new(b"secret");
    let (mut seen, mut cursor) = (Vec::new(), None);
    loop {
        let page = select(rows.clone(), query, cursor.as_ref(), size);
        seen.extend(page.rows.iter().map(|row| row.id.clone()));
        let Some(next) = page.next else { return seen };
        let token = signer.token(&next);
        cursor = Some(signer.cursor(&token, &query.list, None, None).expect("our own token"));
        between(&mut rows);
    }
}

proptest! {
    #[test]
    fn pages_give_every_row_once_in_the_order_of_the_whole_list(
        scores in vec(proptest::option::of(-3i64..3), 0..40), size in 1usize..9, descending in any::<bool>()
    ) {
        let rows: Vec<_> = scores.into_iter().enumerate().map(|(id, score)| run(id, score)).collect();
        let query = query(descending, vec![]);
        let mut whole = rows.clone();
        whole.sort_by(|a, b| (a.field("score"), &a.id).cmp(&(b.field("score"), &b.id)));
        if descending {
            whole.reverse();
        }
        let whole: Vec<_> = whole.into_iter().map(|row| row.id).collect();
        prop_assert_eq!(walk(rows, &query, size, |_| {}), whole);
    }

    #[test]
    fn rows_that_stay_are_neither_repeated_nor_skipped_when_others_come_and_go(
        scores in vec(0i64..5, 1..40), size in 1usize..6, victim in 0usize..40
    ) {
        let rows: Vec<_> = scores.into_iter().enumerate().map(|(id, score)| run(id, Some(score))).collect();
        let stay: Vec<_> = rows.iter().filter(|row| row.id != format!("{victim:03}")).map(|row| row.id.clone()).collect();
        let mut added = 500;
        let mut seen = walk(rows, &query(false, vec![]), size, |rows| {
            rows.retain(|row| row.id != format!("{victim:03}"));
            rows.push(run(added, Some(2)));
            added += 1;
        });
        seen.retain(|id| stay.contains(id));
        seen.sort();
        prop_assert_eq!(seen, stay);
    }

    #[test]
    fn values_are_in_one_total_order(a in value(), b in value(), c in value()) {
        prop_assert_eq!(a.cmp(&b), b.cmp(&a).reverse());
        if a <= b && b <= c {
            prop_assert!(a <= c);
        }
    }

    #[test]
    fn a_value_comes_back_from_a_token(value in value()) {
        let json = serde_json::to_vec(&value).expect("plain data");
        prop_assert_eq!(serde_json::from_slice::<Value>(&json).expect("our own"), value);
    }

    #[test]
    fn a_bent_token_is_refused(at in any::<prop::sample::Index>(), with in any::<u8>()) {
        let signer = Signer::new(b"secret");
        let page = select([run(1, None), run(2, None)], &query(false, vec![]), None, 1);
        let mut token = signer.token(&page.next.expect("there is more")).into_bytes();
        let at = at.index(token.len());
        prop_assume!(token[at] != with);
        token[at] = with;
        let token = String::from_utf8_lossy(&token).into_owned();
        prop_assert_eq!(signer.cursor(&token, "runs/kubeflow", None, None), Err(TokenError::Invalid));
    }
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Nothing),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Integer),
        any::<f64>().prop_map(Value::Real),
        (-3i32..3).prop_map(|half| Value::Real(f64::from(half) / 2.0)),
        (-3i64..3).prop_map(Value::Integer),
        prop::sample::select(vec![i64::MAX, i64::MIN, 1 << 53, (1 << 53) + 1]).prop_map(Value::Integer),
        Just(Value::Real(9_007_199_254_740_992.0)),
        ".{0,3}".prop_map(Value::Text),
    ]
}

#[test]
fn filters_hold_for_what_they_say() {
    let rows = || [run(1, Some(1)), run(2, Some(2)), run(3, None), run(4, Some(4))];
    let check = |wanted: &[&str], filter: Vec<Predicate>| {
        let page = select(rows(), &query(false, filter), None, 9);
        let mut ids: Vec<_> = page.rows.iter().map(|row| row.id.as_str()).collect();
        ids.sort_unstable();
        assert_eq!((ids.as_slice(), page.total), (wanted, wanted.len()));
    };
    let two = || vec![Value::Integer(2)];
    check(&["002"], vec![predicate("score", Comparison::Equals, two())]);
    check(&["001", "003", "004"], vec![predicate("score", Comparison::NotEquals, two())]);
    check(&["004"], vec![predicate("score", Comparison::Greater, two())]);
    check(&["002", "004"], vec![predicate("score", Comparison::GreaterOrEquals, two())]);
    check(&["001"], vec![predicate("score", Comparison::Less, two())]);
    check(&["001", "002"], vec![predicate("score", Comparison::LessOrEquals, two())]);
    check(&["001", "004"], vec![predicate("score", Comparison::OneOf, vec![Value::Integer(4), Value::Integer(1)])]);
    check(&["002"], vec![predicate("name", Comparison::Contains, vec![Value::Text("UN 2".into())])]);
    check(
        &["002"],
        vec![
            predicate("score", Comparison::Greater, vec![Value::Integer(1)]),
            predicate("score", Comparison::Less, vec![Value::Integer(4)]),
        ],
    );
}

#[test]
fn a_token_belongs_to_its_list_order_and_filter() {
    let signer = Signer::new(b"secret");
    let filter = vec![predicate("name", Comparison::Contains, vec![Value::Text("run".into())])];
    let asked = query(true, filter.clone());
    let page = select([run(1, None), run(2, None)], &asked, None, 1);
    let token = signer.token(&page.next.expect("there is more"));
    assert!(signer.cursor(&token, &asked.list, Some(&asked.sort), Some(&filter)).is_ok());
    assert_eq!(signer.cursor(&token, "runs/other", None, None), Err(TokenError::OtherList));
    assert_eq!(signer.cursor(&token, &asked.list, Some(&query(false, vec![]).sort), None), Err(TokenError::OtherSort));
    assert_eq!(signer.cursor(&token, &asked.list, None, Some(&[])), Err(TokenError::OtherFilter));
    assert_eq!(Signer::new(b"other").cursor(&token, &asked.list, None, None), Err(TokenError::Invalid));
    assert_eq!(signer.cursor("", &asked.list, None, None), Err(TokenError::Invalid));
}
