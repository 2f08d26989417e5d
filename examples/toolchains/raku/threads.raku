say [+] await (1..8).map(-> $number { Promise(start { $number }) });
