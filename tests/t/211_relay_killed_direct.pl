# Relays that write straight into the other region's inbox, killed with -9 at random points.

use strict;
use warnings;

use PgTide::RelayKills;

PgTide::RelayKills::run(form => 'direct', kills => 50);
