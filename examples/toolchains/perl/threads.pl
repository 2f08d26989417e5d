use strict;
use warnings;
use threads;
use threads::shared;

my $total : shared = 0;
my @threads = map {
    my $number = $_;
    threads->create(sub { lock($total); $total += $number; });
} 1 .. 8;
$_->join for @threads;
print "$total\n";
