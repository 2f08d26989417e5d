use Test;

plan 2;
is 1 + 2, 3;
is 2 * 3, 6;
