use super::*;

/// What is made of a state word that is read as these, one after the other.
fn read_as(words: &[u64]) -> Result<State> {
    let mut words = words.iter();
    state(|| Ok(*words.next().expect("it is not read so often")))
}

#[test]
fn a_state_word_that_changes_while_it_is_read_is_no_damage() {
    let (idle, copying) = (State::Idle.word(), State::Copying.word());
    let torn = idle & 0xffff | copying & !0xffff;
    assert!(State::parse(torn).is_err());
    assert_eq!(read_as(&[idle]).unwrap(), State::Idle);
    for next in [idle, copying, torn ^ 1] {
        assert!(matches!(read_as(&[torn, next]), Err(Error::Corrupt(what)) if what == CHANGED));
    }
    assert!(matches!(read_as(&[torn, torn]), Err(Error::Corrupt(what)) if what != CHANGED));
}
