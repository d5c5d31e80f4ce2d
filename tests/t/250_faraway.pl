# A WAN of 100 ms round trip with 1 % loss between two NATS servers.

use strict;
use warnings;

use PgTide::Faraway;

PgTide::Faraway::run(form => 'leaf');
