# Links and tables added, removed, added again: nothing is left behind, nothing is missed.

use strict;
use warnings;

use JSON::PP ();
use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new(transport => $ENV{TIDE_TRANSPORT} // 'direct');
my $REPLICATION_SLOTS = q{SELECT count(*) FROM pg_replication_slots};

sub make_table
{
	my ($name, $rows) = @_;
	$mesh->sql_all("CREATE TABLE $name (id int PRIMARY KEY, v text)");
	$mesh->sql('us', "INSERT INTO $name SELECT n, 'v' || n FROM generate_series(1, $rows) n");
	return;
}

# A link without tables, then a table: it is copied while the others go on.
sub test_table_later
{
	$mesh->link('eu', 'us');
	$mesh->start_relays;
	ok(defined $mesh->wait_streaming('eu', 'us'), 'a link without any table streams');
	make_table('first', 100);
	$mesh->class('shop');
	$mesh->add_table('first', 'shop');
	$mesh->sql('us', 'INSERT INTO first VALUES (1000, \'new\')');
	ok(defined $mesh->wait_copied('eu', 'us'), 'a table added later is copied');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... with what changed meanwhile', ['first']);

	# Added in one order and in the other.
	make_table('second', 100);
	$mesh->add_table_at('eu', 'second', 'shop');
	$mesh->sql('us', q{UPDATE first SET v = 'goes on'});
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('a table that is not published there: the others go on', ['first']);
	is($mesh->sql('eu', 'SELECT count(*) FROM second'), 0, '... it waits');
	$mesh->add_table_at('us', 'second', 'shop');
	$mesh->sql('us', q{INSERT INTO second VALUES (1000, 'new')});
	ok(defined $mesh->wait_value('eu', q{SELECT state FROM tide.link_table WHERE table_name = 'second'}, 'copied', 60), '... until it is');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... and is equal then', [qw(first second)]);

	make_table('third', 100);
	$mesh->add_table_at('us', 'third', 'shop');
	$mesh->sql('us', q{INSERT INTO third VALUES (1000, 'before'); UPDATE third SET v = 'x' WHERE id < 5; UPDATE first SET v = 'on'});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT count(*) FROM third'), 0, 'a table that is published and not added here: nothing comes');
	$mesh->add_table_at('eu', 'third', 'shop');
	$mesh->sql('us', q{DELETE FROM third WHERE id > 95});
	ok(defined $mesh->wait_value('eu', q{SELECT state FROM tide.link_table WHERE table_name = 'third'}, 'copied', 60), '... until it is added');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... and is equal then', [qw(first second third)]);
	$mesh->nothing_special('nothing was parked, nothing copied twice');
	return;
}

# What is removed goes no further, and can come back.
sub test_table_remove
{
	$mesh->sql_all(q{SELECT tide.table_remove('second')});
	$mesh->sql('us', q{UPDATE second SET v = 'alone'; UPDATE first SET v = 'together'});
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('table_remove: others go on', ['first']);
	is($mesh->sql('eu', q{SELECT count(*) FROM second WHERE v = 'alone'}), 0, '... it does not');
	is($mesh->sql('us', q{SELECT count(*) FROM pg_trigger WHERE tgrelid = 'second'::regclass AND NOT tgisinternal}), 0, '... its trigger is gone');
	is($mesh->sql('us', q{SELECT count(*) FROM pg_publication_tables WHERE tablename = 'second'}), 0, '... it is published no more');
	is($mesh->sql('us', q{SELECT has_table_privilege('relay', 'second', 'SELECT')}), 'f', '... and the relay may not read it');
	like($mesh->error_of('us', q{SELECT tide.table_remove('second')}), qr/^$|ERROR:  \w{5}: .*second/, '... removing it twice is no error, or a clear one');
	$mesh->add_table('second', 'shop');
	ok(defined $mesh->wait_copied('eu', 'us'), 'added again: copied again');
	$mesh->sql('us', q{INSERT INTO second VALUES (2000, 'back')});
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... and equal', [qw(first second)]);

	# A table dropped under it.
	$mesh->sql('us', 'DROP TABLE third');
	$mesh->sql('us', q{UPDATE first SET v = 'after a drop'});
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('a table dropped at the origin disturbs nobody', ['first']);
	$mesh->sql('eu', 'DROP TABLE third');
	$mesh->sql('us', q{UPDATE first SET v = 'after another'});
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... nor does one dropped here', ['first']);
	is($mesh->sql($_, q{SELECT count(*) FROM tide.replicated_table t WHERE NOT EXISTS (SELECT FROM pg_class c WHERE c.oid = t.relid)}), 0,
		"$_: a dropped table is forgotten")
	  for $mesh->sides;
	return;
}

sub test_link_remove
{
	$mesh->unlink('eu', 'us');
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM tide.links', 0), 'link_remove: gone');
	is($mesh->sql($_, $REPLICATION_SLOTS), 0, "... no slot is left at $_") for $mesh->sides;
	is($mesh->sql('eu', q{SELECT (SELECT count(*) FROM tide.link_progress), (SELECT count(*) FROM pg_replication_origin)}), '0|0', '... no progress, no origin');
	like($mesh->error_of('eu', q{SELECT tide.link_remove('us-east')}), qr/^$|ERROR:  \w{5}: .*us-east/, '... removing it twice is no error, or a clear one');
	$mesh->sql('us', q{UPDATE first SET v = 'while nobody listens' WHERE id % 2 = 0; DELETE FROM first WHERE id = 7; INSERT INTO first VALUES (3000, 'x')});
	$mesh->link('eu', 'us');
	ok(defined $mesh->wait_copied('eu', 'us'), 'link_add again: copied');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... with rows that changed, and those that came', ['second']);
	is($mesh->sql('eu', q{SELECT count(*) FROM first WHERE v = 'while nobody listens'}), $mesh->sql('us', q{SELECT count(*) FROM first WHERE v = 'while nobody listens'}),
		'... those that changed are as they are there');

	# Removed and added in one breath, and several times.
	for (1 .. 3)
	{
		$mesh->unlink('eu', 'us');
		$mesh->link('eu', 'us');
	}
	$mesh->sql('us', q{UPDATE first SET v = 'breathless'});
	ok(defined $mesh->wait_copied('eu', 'us'), 'removed and added in one breath');
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', q{SELECT count(*) FROM first WHERE v = 'breathless'}), $mesh->sql('us', 'SELECT count(*) FROM first'), '... and rows flow');
	ok(defined $mesh->wait_value('us', $REPLICATION_SLOTS, 1), '... over one slot');

	# Nobody is there to drop the slot: the link waits, unless it is told not to.
	$mesh->node('us')->stop;
	$mesh->unlink('eu', 'us');
	ok(defined $mesh->wait_value('eu', q{SELECT state, last_error IS NOT NULL FROM tide.links}, qr/^(stopped|error|paused)\|t$/), 'the origin is down: link_remove waits and says why');
	$mesh->sql('eu', q{SELECT tide.link_remove('us-east', force => true)});
	is($mesh->sql('eu', 'SELECT count(*) FROM tide.link'), 0, '... with force it is forgotten at once');
	$mesh->node('us')->start;
	is($mesh->sql('us', $REPLICATION_SLOTS), 1, '... which leaves a slot behind');
	my $doctor = doctor('us');
	like($doctor, qr/slot/, '... that the doctor finds');
	note $doctor;
	return;
}

sub doctor
{
	my ($side) = @_;
	my $out = '';
	IPC::Run::run([ $ENV{TIDE_PROGRAM} // "$ENV{TIDE_TOP}/build/pg_tide", 'doctor', '-d', $mesh->node($side)->relay_conninfo ],
		'<', \undef, '>', \$out, '2>', \$out);
	return $out;
}

sub test_paused
{
	$mesh->link('eu', 'us');
	ok(defined $mesh->wait_copied('eu', 'us'), 'linked again, over the slot that was left');
	$mesh->link('eu', 'us', paused => JSON::PP::true());
	ok(defined $mesh->wait_value('eu', 'SELECT state FROM tide.links', 'paused'), 'paused');
	ok(defined $mesh->wait_value('us', 'SELECT active FROM pg_replication_slots', 'f'), '... and the relay has let go');
	$mesh->sql('us', q{INSERT INTO first VALUES (4000, 'waits')});
	my $lsn = $mesh->sql('us', 'SELECT pg_current_wal_lsn()');
	is($mesh->sql('eu', q{SELECT count(*) FROM first WHERE id = 4000}), 0, '... nothing comes');
	$mesh->link('eu', 'us');
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', q{SELECT count(*) FROM first WHERE id = 4000}), 1, '... until it goes on');
	is($mesh->sql('eu', q{SELECT resyncs FROM tide.link}), 0, '... from where it was');
	return;
}

# Both sides have rows already, and each other's copy merges with them.
sub test_both_have_rows
{
	make_table('each', 100);
	# Many more than go in one piece: those that follow the first were lost once.
	$mesh->sql('us', q{DELETE FROM each WHERE id > 50; INSERT INTO each SELECT n, md5(n::text) FROM generate_series(1000, 60999) n});
	$mesh->sql('eu', q{INSERT INTO each SELECT n, 'eu' FROM generate_series(51, 120) n});
	$mesh->add_table('each', 'shop');
	$mesh->link('us', 'eu');
	ok(defined $mesh->wait_copied(@$_), "$_->[0] has copied from $_->[1]") for $mesh->ways;
	$mesh->settle;
	$mesh->same_tables('rows of both sides are in both', ['each']);
	is($mesh->sql('us', 'SELECT count(*) FROM each'), 60120, '... all of them');
	return;
}

test_table_later();
test_table_remove();
test_link_remove();
test_paused();
test_both_have_rows();
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
