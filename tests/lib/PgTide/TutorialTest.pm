# PgTide::TutorialTest
#		What must hold of the tutorial in either topology.
#
# Owns: the assertions that 001_tutorial.pl and 002_hub.pl share.
package PgTide::TutorialTest;

use strict;
use warnings;

use Test::More;

use PgTide::Pair;
use PgTide::Test qw(wait_until settle publish_sql make_source exactly_once);
use PgTide::Wan;

my $OUTBOX = 'order_events';
my $INBOX = 'replicated_orders';

# Publishes n events over a few keys, in transactions of their own; every fifth is rolled back.
sub publish
{
	my ($node, $count) = @_;
	my $sql = '';
	for my $n (1 .. $count)
	{
		my $one = publish_sql($OUTBOX, 'CUST-' . $n % 7, qq({"n": $n}));
		$sql .= $n % 5 == 0 ? "BEGIN;\n$one ROLLBACK;\n" : $one;
	}
	$node->safe_psql('postgres', $sql);
	return;
}

sub both_ways
{
	my ($pair, $when) = @_;
	for my $way ([ $pair->us, $pair->eu ], [ $pair->eu, $pair->us ])
	{
		my ($from, $to) = @$way;
		my $took = settle($from, $OUTBOX, $to, $INBOX);
		note sprintf '%s: %s has all of %s after %.2f s', $when, $to->name, $from->name, $took // -1;
		exactly_once($from, $OUTBOX, $to, $INBOX,
			"$when: all that was committed in " . $from->name . ' is in ' . $to->name . ' once, in order');
	}
	return;
}

# Step 4 of the tutorial, and what its reader expects to see in EU-West.
sub one_order
{
	my ($pair) = @_;
	$pair->us->run_file("$ENV{TIDE_TOP}/demo/tutorial-use.sql");
	my $seen = wait_until(
		sub { $pair->eu->safe_psql('postgres', 'SELECT count(*) FROM tide.replicated_orders_inbox') eq '1' },
		60, "the tutorial's order in EU-West");
	ok(defined $seen, "the tutorial's order arrives in EU-West");
	is($pair->eu->safe_psql('postgres', <<~'END'), 't', 'its payload is exactly what was published');
		SELECT payload = jsonb_build_object('order_id', 'ORD-US-001', 'region', 'us-east',
			'customer_id', 'CUST-42', 'total', 149.99) FROM tide.replicated_orders_inbox
		END
	is($pair->eu->safe_psql('postgres',
			q{SELECT entity, op, processed_at IS NULL FROM tide.replicated_orders_inbox}),
		'orders|insert|t', 'entity and operation came along');
	my $us = $pair->us->safe_psql('postgres', 'SELECT tide.region_name()');
	is($pair->eu->safe_psql('postgres', 'SELECT origin FROM tide.replicated_orders_inbox'),
		$us, 'origin names the region it comes from');
	is($pair->us->safe_psql('postgres', 'SELECT count(*) FROM tide.replicated_orders_inbox'),
		0, 'US-East does not get its own order back');
	# From here on, only what is recorded in "published" counts.
	$pair->eu->safe_psql('postgres', 'DELETE FROM tide.replicated_orders_inbox');
	return;
}

sub run
{
	my ($form) = @_;
	plan skip_all => PgTide::Wan->why_not if PgTide::Wan->why_not;

	my $pair = PgTide::Pair->new(form => $form, create => 0);
	$pair->tutorial;
	$pair->start_relays;
	one_order($pair);

	make_source($_) for $pair->us, $pair->eu;
	publish($_, 100) for $pair->us, $pair->eu;
	both_ways($pair, 'linked');

	my %before = map { $_ => $pair->nats($_)->stream_messages('ORDERS') } qw(us eu);
	$pair->wan->cut;
	publish($_, 200) for $pair->us, $pair->eu;
	for my $side (qw(us eu))
	{
		my $wanted = $before{$side} + 160;
		ok(defined wait_until(sub { $pair->nats($side)->stream_messages('ORDERS') == $wanted },
				30, "$side queues what is published"), "cut: $side goes on and queues in its own stream");
	}
	is($_->safe_psql('postgres', 'SELECT count(*) FROM tide.replicated_orders_inbox'),
		80, 'cut: nothing more has come to ' . $_->name)
	  for $pair->us, $pair->eu;
	$pair->wan->heal;
	both_ways($pair, 'healed');

	is_deeply($pair->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
	done_testing();
	return;
}

1;
