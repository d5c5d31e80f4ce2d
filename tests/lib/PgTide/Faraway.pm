# PgTide::Faraway
#		Regions 100 ms and one lost packet in a hundred apart.
#
# Owns: what 250 and 251 share.
package PgTide::Faraway;

use strict;
use warnings;

use Test::More;

use PgTide::Faults;
use PgTide::Wan;

sub run
{
	my (%args) = @_;
	plan skip_all => PgTide::Wan->why_no_delay if PgTide::Wan->why_no_delay;

	my $pair = PgTide::Faults->new(%args);
	$pair->wan->delay(50);
	$pair->wan->loss(1);
	$pair->start_load;
	$pair->start_relays;
	$pair->load($_)->wait_for(2000, 120) for qw(us eu);
	my @stuck = grep { !defined $pair->wait_arrivals($_, 500) } qw(us eu);
	is("@stuck", '', 'events arrive while others are published');
	$pair->stop_load;
	$pair->verdict('100 ms and 1 % loss');
	my $stats = $pair->wan->stats;
	cmp_ok($stats->{$_}{lost}, '>', 0, "packets were lost on the way $_") for qw(ab ba);
	is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
	done_testing();
	return;
}

1;
