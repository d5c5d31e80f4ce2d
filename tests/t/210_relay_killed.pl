# Relays killed with -9 at random points, while both regions publish.

use strict;
use warnings;

use PgTide::RelayKills;

PgTide::RelayKills::run(form => 'leaf', kills => 50);
