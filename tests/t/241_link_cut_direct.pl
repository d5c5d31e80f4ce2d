# The link between the regions cut, cleanly and as a black hole, between relay and the other database.

use strict;
use warnings;

use PgTide::Cuts;

PgTide::Cuts::run(form => 'direct', netns => 1);
