-- Users who turned receipts off.
CREATE TABLE receipts_off (user INTEGER PRIMARY KEY) STRICT;
