# A WAN of 100 ms round trip with 1 % loss between a relay and the other database.

use strict;
use warnings;

use PgTide::Faraway;

PgTide::Faraway::run(form => 'direct', netns => 1);
