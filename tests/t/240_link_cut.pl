# The link between the regions cut, cleanly and as a black hole, for longer than the duplicate window.

use strict;
use warnings;

use PgTide::Cuts;

PgTide::Cuts::run(form => 'leaf');
