# Rows that the destination refuses: parked with the reason, what follows of the row waits behind, the rest flows.

use strict;
use warnings;

use Test::More;

use PgTide::Mesh;
use PgTide::Test qw(wait_until);

my $mesh = PgTide::Mesh->new;

sub set_up
{
	$mesh->sql_all(<<~'END');
		CREATE TABLE checked (id int PRIMARY KEY, v int);
		CREATE TABLE guarded (id int PRIMARY KEY, v text);
		CREATE TABLE single (id int PRIMARY KEY, code text);
		CREATE TABLE child (id int PRIMARY KEY, parent int);
		CREATE TABLE fine (id int PRIMARY KEY, v int);
		CREATE TABLE shaped (id int PRIMARY KEY, v text);
		CREATE TABLE guest (id int PRIMARY KEY, v text);
		END
	$mesh->sql('eu', <<~'END');
		ALTER TABLE checked ADD CONSTRAINT small CHECK (v < 100);
		ALTER TABLE single ADD UNIQUE (code);
		INSERT INTO single VALUES (1000, 'taken');
		CREATE TABLE parent (id int PRIMARY KEY);
		CREATE FUNCTION guard() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				IF NEW.v = 'bad' THEN
					RAISE EXCEPTION 'no bad rows here' USING ERRCODE = 'GU001';
				END IF;
				RETURN NEW;
			END$$;
		CREATE TRIGGER guard BEFORE INSERT OR UPDATE ON guarded FOR EACH ROW EXECUTE FUNCTION guard();
		ALTER TABLE guarded ENABLE ALWAYS TRIGGER guard;
		END
	$mesh->class('shop');
	$mesh->add_table($_, 'shop') for qw(checked guarded single child fine shaped guest);
	$mesh->link('eu', 'us');
	$mesh->start_relays;
	ok(defined $mesh->wait_copied('eu', 'us'), 'the first copy is done');
	return;
}

# [[table, key, op, code] ...] of what is parked.
sub parked
{
	return $mesh->sql('eu', q{SELECT table_name, op, code FROM tide.parked_change ORDER BY id});
}

sub id_of
{
	my ($table) = @_;
	return $mesh->sql('eu', "SELECT min(id) FROM tide.parked_change WHERE table_name = '$table'");
}

# A transaction with good and bad rows: the good ones come, in spite of their neighbours.
sub test_check
{
	$mesh->sql('us', 'INSERT INTO checked SELECT n, n FROM generate_series(95, 104) n; INSERT INTO fine VALUES (1, 1)');
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT string_agg(id::text, \' \' ORDER BY id) FROM checked'), '95 96 97 98 99',
		'CHECK: the rows it allows are here');
	is($mesh->sql('eu', 'SELECT count(*) FROM fine'), 1, '... and so is the next transaction');
	is($mesh->sql('eu', q{SELECT count(*), min(code), bool_and(reason LIKE '%small%') FROM tide.parked_change}),
		'5|23514|t', '... the others are parked, with the reason');
	my ($row) = @{ $mesh->rows('eu', q{SELECT * FROM tide.pending_changes ORDER BY id LIMIT 1}) };
	is_deeply([ @$row{qw(region table key op)} ], [qw(us-east public.checked 100 insert)], '... tide.pending_changes shows it');
	like($row->{reason}, qr/"small"/, '... and why');

	$mesh->sql('us', 'UPDATE checked SET v = v - 10');
	$mesh->sql('us', 'INSERT INTO fine VALUES (2, 2)');
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT string_agg(id || \'=\' || v, \' \' ORDER BY id) FROM checked'),
		'95=85 96=86 97=87 98=88 99=89', 'later changes of parked rows wait, of others come');
	is($mesh->sql('eu', q{SELECT count(*) FROM tide.parked_change WHERE code = 'TD020'}), 5,
		'... each behind what it follows');

	# A person looks at it: the constraint was wrong.
	my $id = $mesh->sql('eu', 'SELECT min(id) FROM tide.pending_changes');
	like($mesh->error_of('eu', "SELECT tide.pending_retry($id)"), qr/^$|23514/m, 'a retry of what is still refused says so');
	is($mesh->sql('eu', q{SELECT count(*) FROM tide.parked_change}), 10, '... and keeps it');
	is($mesh->sql('eu', "SELECT attempts > 0 FROM tide.parked_change WHERE id = $id"), 't', '... and counts');
	$mesh->sql('eu', 'ALTER TABLE checked DROP CONSTRAINT small');
	$mesh->sql('eu', q{SELECT tide.pending_retry(id) FROM tide.pending_changes p
		WHERE NOT EXISTS (SELECT FROM tide.pending_changes o WHERE o.key = p.key AND o.id < p.id) ORDER BY id});
	is($mesh->sql('eu', q{SELECT count(*) FROM tide.parked_change}), 0, 'a retry applies a row\'s changes in their order');
	$mesh->same_tables('... and the table is whole', ['checked']);
	$mesh->sql('us', 'UPDATE checked SET v = v + 1');
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... and goes on', ['checked']);
	return;
}

sub test_trigger
{
	$mesh->sql('us', q{INSERT INTO guarded VALUES (1, 'good'), (2, 'bad'), (3, 'good')});
	$mesh->sql('us', q{UPDATE guarded SET v = 'bad' WHERE id = 1});
	$mesh->sql('us', q{DELETE FROM guarded WHERE id = 1});
	$mesh->sql('us', q{UPDATE guarded SET id = 20, v = 'good' WHERE id = 2});
	$mesh->sql('us', q{UPDATE guarded SET v = 'fine' WHERE id IN (3, 20)});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT id, v FROM guarded ORDER BY id'), "1|good\n3|fine\n20|fine",
		'a trigger: what it refuses waits, the row is here under its new key');
	is(parked(), join("\n", 'guarded|insert|GU001', 'guarded|update|GU001', 'guarded|delete|TD020', 'guarded|delete|TD020'),
		'... and what follows waits behind it, in the order it came');
	like($mesh->sql('eu', q{SELECT min(reason) FROM tide.parked_change WHERE code = 'GU001'}), qr/no bad rows here/,
		'... with what the trigger said');

	# A person decides that these never happened.
	my $log = -s $mesh->node('eu')->logfile;
	while ((my $id = id_of('guarded')) ne '')
	{
		$mesh->sql('eu', "SELECT tide.pending_drop($id)");
	}
	is(parked(), '', 'dropped');
	ok($mesh->node('eu')->log_contains(qr/guarded/, $log), '... which the log says');
	$mesh->sql('us', q{UPDATE guarded SET v = 'whole' WHERE id = 20});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT v FROM guarded WHERE id = 20'), 'whole', 'the next change brings the whole row');
	return;
}

sub test_unique
{
	$mesh->sql('us', q{INSERT INTO single VALUES (1, 'free'), (2, 'taken')});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT id, code FROM single ORDER BY id'), "1|free\n1000|taken", 'unique: the row is not here');
	is(parked(), 'single|insert|23505', '... but parked');
	$mesh->sql('eu', q{SET session_replication_role = replica; DELETE FROM single WHERE id = 1000});
	$mesh->sql('eu', 'SELECT tide.pending_retry(' . id_of('single') . ')');
	$mesh->same_tables('after what stood in the way is gone, a retry brings it', ['single']);
	is(parked(), '', '... and nothing is left');
	return;
}

# The relay and the server die: what is parked stays parked, and so does the order.
sub test_restart
{
	$mesh->sql('eu', 'ALTER TABLE checked ADD CONSTRAINT small CHECK (v < 1000)');
	$mesh->sql('us', 'INSERT INTO checked VALUES (2000, 2000)');
	$mesh->settle_one('us', 'eu');
	is(parked(), 'checked|insert|23514', 'another one is parked');
	$mesh->relay('eu')->kill9;
	$mesh->node('eu')->stop('immediate');
	$mesh->node('eu')->start;
	$mesh->start_relay('eu');
	$mesh->sql('us', 'UPDATE checked SET v = 5 WHERE id = 2000');
	$mesh->settle_one('us', 'eu');
	is(parked(), "checked|insert|23514\nchecked|update|TD020", 'after a crash: still there, and what follows waits');
	$mesh->sql('eu', 'SELECT tide.pending_drop(' . id_of('checked') . ')');
	$mesh->sql('eu', 'SELECT tide.pending_retry(' . id_of('checked') . ')');
	is(parked(), '', 'one dropped, the other applied');
	$mesh->same_tables('... and the row is as it should be', ['checked']);
	return;
}

# A column that is not here yet: the table waits, others don't, nothing is lost.
sub test_shape
{
	$mesh->sql('us', q{INSERT INTO shaped VALUES (1, 'before')});
	$mesh->sql('us', q{ALTER TABLE shaped ADD more int});
	$mesh->sql('us', q{INSERT INTO shaped VALUES (2, 'after'); UPDATE shaped SET more = 5; INSERT INTO fine VALUES (3, 3)});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT count(*) FROM fine'), 3, 'a column is missing here: other tables go on');
	is($mesh->sql('eu', 'SELECT string_agg(id || v, \' \') FROM shaped'), '1before', '... that one stays as it was');
	is($mesh->sql('eu', q{SELECT count(*) > 0, bool_and(key IS NULL), min(code) FROM tide.parked_change WHERE table_name = 'shaped'}),
		't|t|TD014', '... and its changes wait');
	like($mesh->sql('eu', q{SELECT min(reason) FROM tide.parked_change WHERE code = 'TD014'}), qr/more/,
		'... for the reason that the column does not exist');
	$mesh->sql('eu', q{ALTER TABLE shaped ADD more int});
	ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM tide.parked_change}, 0, 20), '... they are applied by themselves');
	$mesh->sql('us', q{DELETE FROM shaped WHERE id = 1});
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... until it does', ['shaped']);
	is(parked(), '', 'nothing is left');
	return;
}

# What the relay's role may not do here is not done.
sub test_permission
{
	$mesh->sql('eu', 'REVOKE ALL ON guest FROM tide_relay');
	$mesh->sql('us', q{INSERT INTO guest VALUES (1, 'x'); INSERT INTO fine VALUES (4, 4)});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT (SELECT count(*) FROM guest), (SELECT count(*) FROM fine)'), '0|4',
		'without privileges: not written, others go on');
	is(parked(), 'guest|insert|TD015', '... but parked');
	$mesh->sql('eu', 'ALTER TABLE guest ENABLE ROW LEVEL SECURITY; GRANT SELECT, INSERT, UPDATE, DELETE, TRUNCATE ON guest TO tide_relay');
	$mesh->sql('us', q{INSERT INTO guest VALUES (2, 'y')});
	$mesh->settle_one('us', 'eu');
	is($mesh->sql('eu', 'SELECT count(*) FROM guest'), 0, 'row security: not written, either');
	$mesh->sql('eu', 'ALTER TABLE guest DISABLE ROW LEVEL SECURITY');
	ok(defined $mesh->wait_value('eu', q{SELECT count(*) FROM tide.parked_change}, 0, 20), 'when it may, both are applied by themselves');
	$mesh->same_tables('... and equal', ['guest']);
	is(parked(), '', 'nothing is left');
	return;
}

# The table's owner sets a trap; what runs in it is the owner's, not the relay's or a superuser's.
sub test_trap
{
	$mesh->sql_all(<<~'END');
		CREATE ROLE mallory;
		CREATE TABLE trap (id int PRIMARY KEY, v text);
		ALTER TABLE trap OWNER TO mallory;
		GRANT CREATE ON SCHEMA public TO mallory;
		END
	$mesh->add_table('trap', 'shop');
	$mesh->sql('eu', <<~'END');
		CREATE TABLE seen (who text, session text, super text);
		GRANT INSERT ON seen TO PUBLIC;
		SET ROLE mallory;
		CREATE FUNCTION public.spring() RETURNS trigger LANGUAGE plpgsql AS $$
			BEGIN
				INSERT INTO public.seen VALUES (current_user, session_user, current_setting('is_superuser'));
				BEGIN
					EXECUTE 'ALTER ROLE mallory SUPERUSER';
				EXCEPTION WHEN OTHERS THEN
					INSERT INTO public.seen VALUES (sqlerrm, NULL, NULL);
				END;
				BEGIN
					EXECUTE 'SET ROLE relay';
				EXCEPTION WHEN OTHERS THEN NULL;
				END;
				RETURN NEW;
			END$$;
		CREATE TRIGGER spring BEFORE INSERT ON trap FOR EACH ROW EXECUTE FUNCTION public.spring();
		ALTER TABLE trap ENABLE ALWAYS TRIGGER spring;
		END
	$mesh->sql('us', q{INSERT INTO trap VALUES (1, 'x')});
	$mesh->settle_one('us', 'eu');
	ok(defined $mesh->wait_value('eu', 'SELECT count(*) FROM trap', 1), 'a trap: the row is here');
	is($mesh->sql('eu', q{SELECT who FROM seen WHERE session IS NOT NULL}), 'mallory', '... the trigger ran as the owner of the table');
	is($mesh->sql('eu', q{SELECT rolsuper FROM pg_roles WHERE rolname = 'mallory'}), 'f', '... and got nothing by it');
	$mesh->sql('us', q{INSERT INTO fine VALUES (5, 5)});
	$mesh->settle_one('us', 'eu');
	$mesh->same_tables('... nor is anything else disturbed', [qw(trap fine)]);
	return;
}

set_up();
test_check();
test_trigger();
test_unique();
test_restart();
test_shape();
test_permission();
test_trap();
is_deeply($mesh->stop, { us => 0, eu => 0 }, 'both relays end with status 0');
done_testing();
