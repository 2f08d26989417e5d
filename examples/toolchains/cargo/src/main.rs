fn main() {
    println!("{}", word::hello());
}

#[test]
fn says_hello() {
    assert_eq!(word::hello(), "hello");
}
