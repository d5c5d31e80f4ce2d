# nats-server killed with -9 and started again, on either side and on both, while both regions publish.

use strict;
use warnings;

use Test::More;
use Time::HiRes qw(sleep);

use PgTide::Faults;
use PgTide::Wan;

plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

my $pair = PgTide::Faults->new;
$pair->start_load;
$pair->start_relays;

sub flows_again
{
	my ($when) = @_;
	my @stuck = grep { !defined $pair->wait_arrivals($_, 20, $PgTide::Test::HEAL_LIMIT) } qw(us eu);
	is("@stuck", '', "events flow both ways after $when");
	return;
}

flows_again('the start');
for my $sides (['us'], ['eu'], ['us'], ['eu'], [qw(us eu)], [qw(us eu)])
{
	$pair->nats($_)->kill9 for @$sides;
	# While it is away, events are committed all the same.
	$pair->load($_)->wait_for(20) for @$sides;
	sleep rand(1);
	$pair->nats($_)->start for @$sides;
	flows_again("nats-server of @$sides was killed");
}
# Again before everything is back.
for my $side (qw(us eu us eu))
{
	$pair->nats($side)->kill9;
	$pair->nats($side)->start;
	sleep rand(1.5);
}
$pair->stop_load;
$pair->verdict('after 12 kills of nats-server');
is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
