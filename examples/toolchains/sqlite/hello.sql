CREATE TABLE words (word TEXT PRIMARY KEY);
INSERT INTO words VALUES ('hello');
SELECT word FROM words;
