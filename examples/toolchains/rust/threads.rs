use std::sync::{Arc, Mutex};
use std::thread;

fn main() {
    let sum = Arc::new(Mutex::new(0));
    let threads: Vec<_> = (1..=8)
        .map(|number| {
            let sum = Arc::clone(&sum);
            thread::spawn(move || *sum.lock().unwrap() += number)
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    println!("{}", sum.lock().unwrap());
}
