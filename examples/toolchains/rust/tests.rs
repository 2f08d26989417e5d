#[test]
fn sum() {
    assert_eq!(1 + 2, 3);
}

#[test]
fn product() {
    assert_eq!(2 * 3, 6);
}
